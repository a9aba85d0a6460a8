"""Pictures of a place where parts come by go in; one picture of each part comes out, the one that shows it nearest to the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from lad_edge.stream.triggers import Trigger
from lad_edge.values import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lad_edge.stream.parts import Parts
    from lad_edge.values import Frame

Box = tuple[int, int, int, int]  # x, y, width, height in px of the frame

_SIDE = 64  # cells along the longer side on which presence is judged
_LEARNT = 10  # pictures of the empty place
_LEAST_CHANGE, _NOISES = 12.0, 6.0  # grey levels, and times the noise of the empty place: more is a part
_LEAST_AREA = 0.01  # share of the place; less is a fly
_STILL = 3  # pictures
_FORGETTING = 0.02  # how fast the empty place follows the light
_OPENING = np.ones((3, 3), np.uint8)


class Sight(NamedTuple):
    """A part in one picture. inside: it does not touch the border of the place. off: distance from the middle, in cells."""

    inside: bool
    off: float
    frame: Frame

    def better_than(self, other: Sight) -> bool:
        """Wholly inside before cut off, then nearer to the middle."""
        return (self.inside, -self.off) > (other.inside, -other.off)


class Presence(Trigger):
    """A part is there when the place differs from how it looked empty.

    The place must be empty at the start. A part gives its picture when it moves away from the middle, lies still, or has left; the
    next one can come when the place was empty again.
    """

    def __init__(self, parts: Parts, place: Box | None = None) -> None:
        """place: where parts come by; None = the whole picture."""
        super().__init__(parts)
        self.place = place
        self._empties: list[NDArray[np.float32]] = []
        self._empty, self._limit = np.zeros((1, 1), np.float32), 0.0
        self._best: Sight | None = None
        self._still, self._given = 0, False

    @property
    def ready(self) -> bool:
        """It knows how the empty place looks."""
        return len(self._empties) >= _LEARNT

    def offer(self, frame: Frame) -> bool:
        """A part if its best picture is known by now."""
        if frame.image is None:
            return self.parts.put(frame) if frame.fault is Reason.CAMERA_LOST else not self.parts.closed
        cells = self._cells(frame.image)
        if not self.ready:
            self._learn(cells)
            return not self.parts.closed
        sight = self._look(cells, frame)
        if sight is None:
            return self._left(cells)
        return self._seen(sight)

    def _cells(self, image: NDArray[np.generic]) -> NDArray[np.float32]:
        if self.place is not None:
            x, y, width, height = self.place
            image = image[y : y + height, x : x + width]
        scale = _SIDE / max(image.shape[:2])
        size = max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0]))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return np.asarray(small if small.ndim == 2 else small.mean(-1), np.float32)

    def _learn(self, cells: NDArray[np.float32]) -> None:
        self._empties.append(cells)
        if self.ready:
            seen = np.stack(self._empties)
            self._empty = np.median(seen, 0).astype(np.float32)
            self._limit = max(_LEAST_CHANGE, _NOISES * float(seen.std(0).mean()))

    def _look(self, cells: NDArray[np.float32], frame: Frame) -> Sight | None:
        changed = (np.abs(cells - self._empty) > self._limit).astype(np.uint8)
        changed = cv2.morphologyEx(changed, cv2.MORPH_OPEN, _OPENING).astype(bool)
        if changed.mean() < _LEAST_AREA:
            return None
        border = changed[[0, -1]].any() or changed[:, [0, -1]].any()
        middle = np.argwhere(changed).mean(0) - (np.array(changed.shape) - 1) / 2
        return Sight(not border, float(np.hypot(*middle)), frame)

    def _seen(self, sight: Sight) -> bool:
        if self._given:
            return not self.parts.closed
        best = self._best
        self._still = self._still + 1 if best is not None and abs(sight.off - best.off) < 1 else 0
        if best is None or sight.better_than(best):
            self._best = sight
        leaving = best is not None and best.inside and sight.off > best.off + 1
        return self._give() if leaving or self._still >= _STILL else not self.parts.closed

    def _left(self, cells: NDArray[np.float32]) -> bool:
        goes_on = self._give() if self._best is not None and not self._given else not self.parts.closed
        self._best, self._given, self._still = None, False, 0
        self._empty += _FORGETTING * (cells - self._empty)
        return goes_on

    def _give(self) -> bool:
        assert self._best is not None  # noqa: S101 - there is a part
        self._given = True
        return self.parts.put(self._best.frame)
