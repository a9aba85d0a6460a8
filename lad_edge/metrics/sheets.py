"""Pictures go in, sheets of them that a person looks through come out; needs OpenCV alone, so that the edge can make them too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_CAPTION_PX, _GAP_PX = 26, 4


@dataclass(frozen=True)
class Tile:
    """Pictures that belong together, (H, W, 3) BGR each, and a line above them."""

    caption: str
    pictures: Sequence[Image]


def contact_sheet(tiles: Sequence[Tile], path: Path, columns: int = 5, side_px: int = 180) -> None:
    """One or more tiles, `columns` to a row, the longer side of each picture scaled to side_px; written as PNG or JPEG."""
    shrunk = [Tile(tile.caption, [_shrunk(picture, side_px) for picture in tile.pictures]) for tile in tiles]
    height_px = max(len(picture) for tile in shrunk for picture in tile.pictures)
    cells = [_cell(tile, (height_px, side_px)) for tile in shrunk]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    cv2.imwrite(str(path), np.vstack(rows))


def heat(
    image_bgr: NDArray[np.uint8], anomaly_map: NDArray[np.float32], low: float, threshold: float
) -> NDArray[np.uint8]:
    """The image under its map, on a scale that is fixed for the engine: clear at `low`, yellow at the threshold, red at twice the way."""
    height, width = image_bgr.shape[:2]
    grown = cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR)
    level = np.clip((grown - low) / max(2 * (threshold - low), 1e-12), 0, 1)
    colours = cv2.applyColorMap((255 * level).astype(np.uint8), cv2.COLORMAP_TURBO)
    alpha = (0.65 * level)[..., None]
    blended: NDArray[np.uint8] = ((1 - alpha) * image_bgr + alpha * colours).astype(np.uint8)
    return blended


def _shrunk(image: Image, side_px: int) -> Image:
    scale = side_px / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small


def _cell(tile: Tile, size: tuple[int, int]) -> Image:
    gap = np.full((size[0], _GAP_PX, 3), 255, np.uint8)
    strip = np.hstack([part for picture in tile.pictures for part in (gap, _centred(picture, size), gap)])
    cell = np.full((size[0] + _CAPTION_PX, strip.shape[1], 3), 255, np.uint8)
    cell[_CAPTION_PX - 6 : -6] = strip
    cv2.putText(cell, tile.caption, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (30, 30, 30), 1, cv2.LINE_AA)
    return cell


def _centred(image: Image, size: tuple[int, int]) -> Image:
    """On white of (height, width)."""
    area = np.full((*size, 3), 255, np.uint8)
    top, left = (size[0] - image.shape[0]) // 2, (size[1] - image.shape[1]) // 2
    area[top : top + image.shape[0], left : left + image.shape[1]] = image
    return area
