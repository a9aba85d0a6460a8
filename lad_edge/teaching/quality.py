"""A picture of a part goes in; what its light and focus leave to be desired comes out, in words: hints, never verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lad_edge.views import Quality, as_grey, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Quality", "hints", "measure", "same_view"]

DARK_LEVEL = 12.0  # mean grey of 0..255; parts of black rubber under good light have 19
MOST_SATURATED = 0.05  # of the pixels
LEAST_SHARPNESS = 0.6  # of the median of the pictures before; good pictures of one camera lie above 0.7
FEWEST_BEFORE = 3  # pictures that say how sharp this camera is
SAME_SIDE, SAME_LEVELS = 64, 6.0  # cells along each side; grey levels that noise moves a cell's mean at most


def hints(quality: Quality, before: Sequence[Quality]) -> list[str]:
    """What to look at, empty if nothing; before: of the pictures that were taken earlier in the same place."""
    found = []
    if quality.mean_grey < DARK_LEVEL:
        found.append(f"too dark (mean grey {quality.mean_grey:.0f} of 255)")
    if quality.saturated > MOST_SATURATED:
        found.append(f"saturated ({quality.saturated:.0%} of the pixels are white)")
    if len(before) >= FEWEST_BEFORE:
        usual = float(np.median([earlier.sharpness for earlier in before]))
        if quality.sharpness < LEAST_SHARPNESS * usual:
            found.append(f"blurred ({quality.sharpness / usual:.0%} of the usual sharpness)")
    return found


def same_view(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """True if both show one part that has not moved: no cell of the picture differs by more than noise and flicker.

    Both as for `measure`; pictures of different sizes differ. A change of the light as a whole does not count.
    """
    if image.shape != other.shape:
        return False
    change = _cells(image) - _cells(other)
    return float(np.abs(change - change.mean()).max()) <= SAME_LEVELS


def _cells(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(SAME_SIDE, SAME_SIDE) means of the grey picture."""
    small = cv2.resize(as_grey(image), (SAME_SIDE, SAME_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)
