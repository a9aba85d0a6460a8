"""Which pictures show the same scene: thumbnails in, groups out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

THUMBNAIL = (32, 32, 3)
# Measured on juice_bottle and tire: thumbnails of one scene taken twice (noise of 3 levels, JPEG 80, 3 % more light)
# differ by at most 6.5 grey levels anywhere and 1.9 r.m.s.; the most alike of different parts by 18.8 and 1.65.
_WORST_LEVELS, _RMS_LEVELS = 9.0, 2.5
_ROWS = 256  # of the distance matrix at a time: memory stays flat for large sets


def thumbnail(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """(32, 32, 3) float32 in 8-bit grey levels; area-averaged against noise, means taken off against drift."""
    small = cv2.resize(image, THUMBNAIL[:2], interpolation=cv2.INTER_AREA).astype(np.float32)
    colour = np.repeat(small[..., None], 3, axis=2) if small.ndim == 2 else small[..., :3]
    return np.asarray((colour - colour.mean(axis=(0, 1))) * np.float32(levels(image.dtype)), np.float32)


def levels(dtype: np.dtype[np.generic]) -> float:
    """8-bit grey levels in one step of this kind of pixel; floating point runs from 0 to 1."""
    return {1: 1.0, 2: 255.0 / 65535.0}[dtype.itemsize] if dtype.kind == "u" else 255.0


def near_groups(thumbnails: NDArray[np.float32]) -> list[list[int]]:
    """Groups of two or more rows that show one scene: neighbours of neighbours belong together.

    thumbnails: (N, 32, 32, 3).
    """
    leader = list(range(len(thumbnails)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for i, j in _near_pairs(thumbnails.reshape(len(thumbnails), 3 * 32 * 32)):
        leader[find(j)] = find(i)
    groups: dict[int, list[int]] = {}
    for i in range(len(thumbnails)):
        groups.setdefault(find(i), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _near_pairs(flat: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Pairs i < j within both limits; distances come from a matrix product, the worst cell only for candidates."""
    pairs: list[tuple[int, int]] = []
    if not len(flat):
        return pairs
    energy = (flat.astype(np.float64) ** 2).sum(axis=1)
    for start in range(0, len(flat), _ROWS):
        rows = flat[start : start + _ROWS]
        squares = energy[start : start + _ROWS, None] + energy[None] - 2.0 * (rows @ flat.T)
        for i, j in np.argwhere(squares <= _RMS_LEVELS**2 * flat.shape[1]):
            if start + i < j and np.abs(rows[i] - flat[j]).max() <= _WORST_LEVELS:
                pairs.append((int(start + i), int(j)))
    return pairs
