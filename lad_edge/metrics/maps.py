"""Anomaly maps at the size of the ground truth: bring maps to masks, never masks to maps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lad_edge.errors import DataError

Roi = tuple[int, int, int, int]  # x, y, width, height in pixels of the image
UNSEEN = np.finfo(np.float32).min  # outside the region of interest nothing is ever predicted


def resize_map(anomaly_map: NDArray[np.float32], shape: tuple[int, ...], roi: Roi | None = None) -> NDArray[np.float32]:
    """A map (h, w) at the size (H, W) of an image, bilinear with half-pixel centres.

    roi: where in the image the map lies; the rest gets the lowest score. Raises DataError if it leaves the image.
    """
    height, width = shape
    if roi is None:
        return np.asarray(cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    x, y, roi_width, roi_height = roi
    if x + roi_width > width or y + roi_height > height:
        raise DataError(
            f"the region of interest {roi} leaves a mask of {width} x {height} px; expected one of its size"
        )
    placed = np.full((height, width), UNSEEN, np.float32)
    placed[y : y + roi_height, x : x + roi_width] = resize_map(anomaly_map, (roi_height, roi_width))
    return placed


def ordered_bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """(n,) uint32 that sort like the finite float32 of an array: the sign bit flipped, of negative ones all bits."""
    bits = np.ascontiguousarray(values, np.float32).ravel().view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint32, copy=False)


def from_ordered_bits(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The float32 that `ordered_bits` came from, in the memory of the keys."""
    negative = keys < np.uint32(1 << 31)
    np.invert(keys, out=keys, where=negative)
    np.bitwise_and(keys, np.uint32((1 << 31) - 1), out=keys, where=~negative)
    return keys.view(np.float32)
