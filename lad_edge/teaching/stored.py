"""The cells of taught parts as a bundle keeps them: one byte a number, so that parts can be added without the old pictures."""

from __future__ import annotations

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


def _grid(ranges: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    low, high = (edge[:, None, None] for edge in ranges)
    return low, np.maximum(high - low, 1e-12) / np.float32(STEPS)
