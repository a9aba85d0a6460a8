"""Pictures of a place where parts come by go in; one picture of each part comes out, which shows it in the middle or at rest."""

from __future__ import annotations

import math
from dataclasses import replace
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
_NEAR = 1.0  # cells: less is the same place
_REST_S, _CUT_OFF_REST_S = 0.3, 1.5  # in the same place; a part that is not wholly inside may be on its way
_FORGETTING = 0.02  # how fast the empty place follows the light
_OPENING = np.ones((3, 3), np.uint8)


class Sight(NamedTuple):
    """A part in one picture. inside: it does not touch the border of the place. at: its middle from the place's, in cells."""

    inside: bool
    at: tuple[float, float]
    frame: Frame

    @property
    def off(self) -> float:
        """Distance from the middle, in cells."""
        return math.hypot(*self.at)

    def beside(self, other: Sight) -> bool:
        """Whether the part has not moved in between."""
        return math.dist(self.at, other.at) < _NEAR


class Presence(Trigger):
    """A part is there when the place differs from how it looked empty.

    The place must be empty at the start. A part gives its picture when it moves away from the middle, lies still, or has left; the
    next one can come when the place was empty again. Of pictures that are as good as each other it gives the newest, as the deadline
    of the part counts from its capture.
    """

    def __init__(self, parts: Parts, place: Box | None = None) -> None:
        """place: where parts come by; None = the whole picture."""
        super().__init__(parts)
        self.place = place
        self._empties: list[NDArray[np.float32]] = []
        self._empty, self._limit = np.zeros((1, 1), np.float32), 0.0
        self._best: Sight | None = None
        self._rests: Sight | None = None  # the first in which the part was where it is now
        self._nearest, self._given = math.inf, False  # off, of the sights that are as whole as the best
        self._size: tuple[int, int] | None = (
            None  # height and width of the pictures in which the empty place was learnt
        )

    @property
    def ready(self) -> bool:
        """It knows how the empty place looks."""
        return len(self._empties) >= _LEARNT

    def offer(self, frame: Frame) -> bool:
        """A part if its best picture is known by now."""
        if frame.image is None:
            return self.parts.put(frame) if frame.fault is Reason.CAMERA_LOST else not self.parts.closed
        if problem := self._problem(frame.image):
            return self._refuse(frame, problem)
        self.trouble = ""
        cells = self._cells(frame.image)
        if not self.ready:
            self._learn(cells)
            return not self.parts.closed
        sight = self._look(cells, frame)
        if sight is None:
            return self._left(cells)
        return self._seen(sight)

    def _problem(self, image: NDArray[np.generic]) -> str:
        """Why nobody can see in this picture whether a part is there; "" = one can."""
        height, width, *_ = (*image.shape, 0)
        x, y, place_width, place_height = self.place or (0, 0, width, height)
        if image.ndim < 2 or x + place_width > width or y + place_height > height:
            return f"the place {self.place or 'of parts'} does not fit into a picture of {image.shape}"
        self._size = self._size or (height, width)
        if self._size != (height, width):
            return f"the empty place was learnt in {self._size[1]}×{self._size[0]} px, came {width}×{height}"
        return ""

    def _refuse(self, frame: Frame, problem: str) -> bool:
        """One record for all such pictures, and a trouble as long as they come: parts go by unseen (reliability.md F5)."""
        told, self.trouble = self.trouble == problem, problem
        goes_on = self._part_is_over()
        if told:
            return goes_on
        detail = f"{problem}: set the camera as it was, or start the line again"
        return self.parts.put(replace(frame, image=None, fault=Reason.FRAME_FORMAT, fault_detail=detail))

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
        row, column = np.argwhere(changed).mean(0) - (np.array(changed.shape) - 1) / 2
        return Sight(not border, (float(row), float(column)), frame)

    def _seen(self, sight: Sight) -> bool:
        if self._given:
            return not self.parts.closed
        best = self._best
        if best is None or sight.inside > best.inside:
            self._best, self._nearest = sight, sight.off
        elif sight.inside == best.inside and sight.off <= self._nearest + _NEAR:
            self._best, self._nearest = sight, min(sight.off, self._nearest)
        elif best.inside and sight.off > self._nearest + _NEAR:
            return self._give()
        return self._give() if self._lies_still(sight) else not self.parts.closed

    def _lies_still(self, sight: Sight) -> bool:
        if self._rests is None or not sight.beside(self._rests):
            self._rests = sight
        rest_s = (sight.frame.captured_ns - self._rests.frame.captured_ns) / 1e9
        return rest_s >= (_REST_S if sight.inside else _CUT_OFF_REST_S)

    def _left(self, cells: NDArray[np.float32]) -> bool:
        goes_on = self._part_is_over()
        self._empty += _FORGETTING * (cells - self._empty)
        return goes_on

    def _part_is_over(self) -> bool:
        """It gives its picture if it has not; the next one may come."""
        goes_on = self._give() if self._best is not None and not self._given else not self.parts.closed
        self._best, self._rests, self._given = None, None, False
        return goes_on

    def _give(self) -> bool:
        assert self._best is not None  # noqa: S101 - there is a part
        self._given = True
        return self.parts.put(self._best.frame)
