"""Where a part lies: its picture goes in, its shift against the mean picture of the good parts comes out, in shares of the sides.

Cross-correlation of small grey pictures by a phase-only matched filter (Horner & Gianino, 1984), which whitens the spectrum of the mean
picture alone. Phase correlation (Kuglin & Hines, 1975) whitens both: then details that differ from part to part decide. With neither,
large areas of light decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import cv2
import numpy as np

from lad_edge.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 96  # px of the small picture
REACH = 0.25  # of a side: the largest shift that is looked for
_NEAR = 0.03  # of a side: a peak within it needs no proof
_PROOF = 0.75  # of what is unlike the mean picture: so much at most is left when the picture is moved back
_FREQUENCIES = 0.12  # cycles per small pixel: the spread of those that count; above lies what the sampling folds down

Roi = tuple[int, int, int, int]  # x, y, width, height in px
Pixel = TypeVar("Pixel", bound=np.generic)


class Shift(NamedTuple):
    """To the right and down, in shares of width and height."""

    x: float
    y: float


class Placement:
    """Finds the shift of pictures against one mean picture, which it prepares once."""

    def __init__(self, mean: NDArray[np.float32]) -> None:
        """mean: (SIDE, SIDE), of `small_grey` pictures of good parts. Raises EngineError for another shape."""
        if mean.shape != (SIDE, SIDE):
            raise EngineError(
                f"the mean picture of good parts should be {(SIDE, SIDE)}, is {mean.shape}, made by another version: make the engine again"
            )
        edge = np.hanning(SIDE).astype(np.float32)
        self._window = np.outer(edge, edge)
        self._reach = round(REACH * SIDE)
        self._filter = cv2.dft(self._matched(self._windowed(mean)))
        self._centred = mean - mean.mean()

    def __call__(self, small: NDArray[np.uint8]) -> Shift:
        """Of one `small_grey` picture. (0, 0) if the peak lies far off and the picture is hardly more like the mean when moved back."""
        picture = small.astype(np.float32)
        spectrum = cv2.mulSpectrums(cv2.dft(self._windowed(picture)), self._filter, 0)
        found = self._peak(cv2.idft(spectrum))
        return found if max(map(abs, found)) <= _NEAR or self._is_proven(picture, found) else Shift(0, 0)

    def _matched(self, windowed: NDArray[np.float32]) -> NDArray[np.float32]:
        """(SIDE, SIDE): what to convolve a picture with. A part in its place peaks at (reach, reach)."""
        spectrum = np.conj(np.fft.rfft2(windowed))
        rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
        low_pass = np.exp(-(rows**2 + columns**2) / (2 * _FREQUENCIES**2))
        matched = np.fft.irfft2(spectrum / (np.abs(spectrum) + 1e-9) * low_pass, (SIDE, SIDE))
        return np.roll(matched, (self._reach, self._reach), (0, 1)).astype(np.float32)

    def _windowed(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((picture - picture.mean()) * self._window, np.float32)

    def _peak(self, correlation: NDArray[np.floating]) -> Shift:
        """The highest place within reach, between pixels by a parabola through its neighbours."""
        around = correlation[: 2 * self._reach + 1, : 2 * self._reach + 1]
        row, column = divmod(int(around.argmax()), around.shape[1])
        down = row + _vertex(around[:, column], row) - self._reach
        right = column + _vertex(around[row], column) - self._reach
        return Shift(right / SIDE, down / SIDE)

    def _is_proven(self, picture: NDArray[np.float32], shift: Shift) -> bool:
        """A defect may draw the peak as well; but then nothing fits when the picture is moved back."""
        unlike = 1 - self._likeness(picture, Shift(0, 0))
        return max(map(abs, shift)) < REACH and 1 - self._likeness(picture, shift) <= _PROOF * unlike

    def _likeness(self, picture: NDArray[np.float32], shift: Shift) -> float:
        """Correlation with the mean picture where both overlap, when the picture is moved back by whole pixels."""
        rows, columns = (_overlap(round(share * SIDE)) for share in (shift.y, shift.x))
        mean, moved = self._centred[rows[1], columns[1]].ravel(), picture[rows[0], columns[0]].ravel()
        moved = moved - moved.mean()
        return float(moved @ mean) / max(float(np.sqrt((moved @ moved) * (mean @ mean))), 1e-9)


def small_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(SIDE, SIDE) grey of (H, W, 3) BGR or (H, W) grey: two by two neighbours of each place, which is quick and enough to correlate."""
    return as_grey(np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8))


def as_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) of (H, W, 3) BGR, (H, W, 1) or (H, W)."""
    if image.ndim == 3 and image.shape[2] == 3:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    return image.reshape(image.shape[:2])


def region(image: NDArray[Pixel], roi: Roi | None) -> NDArray[Pixel]:
    """The part of the picture that is inspected, a view."""
    if roi is None:
        return image
    x, y, width, height = roi
    return image[y : y + height, x : x + width]


def _vertex(values: NDArray[np.floating], top: int) -> float:
    """Where the parabola through the top and its neighbours has its own, relative to the top; 0 at the ends."""
    if not 0 < top < len(values) - 1:
        return 0.0
    before, peak, after = (float(value) for value in values[top - 1 : top + 2])
    curvature = before - 2 * peak + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


def _overlap(shift: int) -> tuple[slice, slice]:
    """Along one side: what a picture that is shifted by so many px, and one that is not, both show."""
    kept = SIDE - abs(shift)
    return slice(max(shift, 0), max(shift, 0) + kept), slice(max(-shift, 0), max(-shift, 0) + kept)
