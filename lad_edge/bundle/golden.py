"""Golden frames: good frames, and one spoilt frame that must stay noticed; every start scores them before it judges anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOLDEN_TOLERANCE = {"f32": 1e-3, "bf16": 5e-2}  # relative error on another machine: its kernels round in another order


def spoilt(good: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A good frame with the colours inverted in a window of a quarter of its sides, in the middle."""
    frame: NDArray[np.uint8] = good.copy()
    height, width = frame.shape[:2]
    window = (slice(height * 3 // 8, height * 5 // 8), slice(width * 3 // 8, width * 5 // 8))
    frame[window] = 255 - frame[window]
    return frame
