"""What a bundle keeps of the taught parts: cells, one byte a number, so that parts can be added without the old pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STEPS = 255


def pack(cells: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(n, C, h, w) → bytes of that shape and ranges (2, C), lowest and highest value of each channel."""
    ranges = np.stack([cells.min((0, 2, 3)), cells.max((0, 2, 3))]).astype(np.float32)
    low, step = _grid(ranges)
    return np.round((cells - low) / step).astype(np.uint8), ranges


def unpack(packed: NDArray[np.uint8], ranges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undoes `pack`, to half a 255th of a channel's range."""
    low, step = _grid(ranges)
    return np.asarray(packed * step + low, np.float32)


def spread_out(points: NDArray[np.float64], allowed: Sequence[bool], most: int) -> NDArray[np.bool_]:
    """(n,): which of the allowed among points (n, r) to keep, `most` or fewer, so that every other one has one near.

    The greedy k-centre of Gonzalez (Theoretical Computer Science 38, 1985): the next is the one furthest from all that are kept.
    """
    kept = np.zeros(len(points), bool)
    apart = np.where(allowed, np.inf, -1.0)
    while kept.sum() < most and apart.max() > 0:
        following = int(apart.argmax())
        kept[following] = True
        apart = np.minimum(apart, np.square(points - points[following]).sum(1))
    return kept


def _grid(ranges: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    low, high = (edge[:, None, None] for edge in ranges)
    return low, np.maximum(high - low, 1e-12) / np.float32(STEPS)
