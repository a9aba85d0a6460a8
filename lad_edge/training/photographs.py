"""Ordinary photographs, for distilling a teacher and for EfficientAD's ImageNet penalty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lad_edge.errors import DataError
from lad_edge.images import IMAGE_SUFFIXES, read_image

MINIMUM = 16


def load_photographs(folder: Path) -> list[NDArray[np.uint8]]:
    """All pictures below `folder` as (H, W, 3) RGB uint8; grey ones are replicated. Raises DataError if there are fewer than 16."""
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder of photographs, found {'a file' if folder.exists() else 'nothing'}"
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) < MINIMUM:
        raise DataError(
            f"{folder}: expected at least {MINIMUM} photographs, found {len(paths)}; a thousand varied ones serve well"
        )
    return [_as_rgb(*read_image(path), path) for path in paths]


def _as_rgb(image: NDArray[np.generic], pixel_format: str, path: Path) -> NDArray[np.uint8]:
    if pixel_format == "bgr8":
        return np.ascontiguousarray(image[:, :, ::-1]).astype(np.uint8, copy=False)
    if pixel_format == "mono8":
        return np.repeat(image[:, :, None], 3, axis=2).astype(np.uint8, copy=False)
    raise DataError(f"{path}: expected 8-bit colour or grey, found {pixel_format}; convert or remove it")
