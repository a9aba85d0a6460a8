"""Ground truth masks at their own resolution: record in, boolean arrays out; LOCO's defect channels stay apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.errors import DataError
from lad_edge.images import read_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lad_edge.datasets.records import Record


@dataclass(frozen=True)
class Channel:
    """One defect channel: mask (H, W) bool, and the positive value in its file: MVTec LOCO names defects by it."""

    mask: NDArray[np.bool_]
    pixel_value: int


def read_masks(record: Record) -> list[NDArray[np.bool_]]:
    """One (H, W) bool array for each mask file, true where it is not 0; empty for good images.

    Never resized: bring anomaly maps to the mask, not the mask to the map. Raises DataError for files that are not
    masks.
    """
    return [channel.mask for channel in read_channels(record)]


def read_channels(record: Record) -> list[Channel]:
    """The masks of a record with their pixel values.

    Raises DataError for files that are not masks, or masks of different sizes.
    """
    channels = [Channel(values > 0, int(values.max())) for values in map(read_mask, record.masks)]
    sizes = {channel.mask.shape for channel in channels}
    if len(sizes) > 1:
        raise DataError(f"{record.path}: expected masks of one size, got {sorted(sizes)}; restore them")
    return channels


def read_mask(path: Path) -> NDArray[np.uint8]:
    """A mask file as (H, W) uint8: grey as stored, also if stored as colour; of a palette the brightest channel.

    Raises DataError if it is not an 8-bit image, or a coloured one.
    """
    image, pixel_format = read_image(path)
    if pixel_format == "mono8":
        return np.asarray(image, np.uint8)
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        brightest = image.max(axis=2)
        if pixel_format == "palette8" or (image == brightest[..., None]).all():
            return np.asarray(brightest, np.uint8)
    raise DataError(f"{path}: expected a mask of 8-bit grey, got {pixel_format}; convert it to grey")
