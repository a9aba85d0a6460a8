"""Frames of sources go in and are shown to a lesson, each under a name of its own; what a person should look at comes out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.errors import DataError, UsageError
from lad_edge.sources.converted import Converted
from lad_edge.sources.video import VideoSource
from lad_edge.teaching.quality import hints, measure, same_view

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from lad_edge.sources.source import Source
    from lad_edge.teaching import Lesson
    from lad_edge.teaching.quality import Quality
    from lad_edge.values import Frame

_MOST_NAMED = 5


class Showing:
    """Shows the pictures of several sources to one lesson.

    hints: what to look at → the parts concerned. unreadable: one line for each picture that could not be read. repeated: frames of
    videos that showed the part of the frame before. seconds: what the features took.
    """

    def __init__(self, lesson: Lesson, left_out: Collection[str], roi: tuple[int, int, int, int] | None) -> None:
        """left_out: names of parts in the sources that are not shown. roi: the one that the user asked for."""
        self.lesson, self.roi = lesson, roi
        self.left_out, self.never_met = frozenset(left_out), set(left_out)
        self.names = set(lesson.shown.names)
        self.before = len(self.names)
        self.hints: dict[str, list[str]] = {}
        self.unreadable: list[str] = []
        self.repeated = 0
        self.seconds = 0.0
        self._qualities: list[Quality] = []
        self._source = ""
        self._last: NDArray[np.uint8] | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the parts, None before the first."""
        first = self.lesson.shown.picture
        return None if first is None else (first.shape[1], first.shape[0])

    def begin(self, source: Source) -> None:
        """The next pictures come from this source."""
        self._source, self._last = source.name, None

    def show_all(self, source: Source, count: Callable[[int], None]) -> None:
        """Every picture of a folder; of a video each one that differs from the one before. count: told how many were shown so far."""
        moving = isinstance(source.source if isinstance(source, Converted) else source, VideoSource)
        self.begin(source)
        source.open()
        try:
            for frame in iter(source.read, None):
                if frame.image is None:
                    self.unreadable.append(
                        f"{frame.frame_id}: {frame.fault_detail.removeprefix(f'{frame.frame_id}: ')}"
                    )
                elif moving and self.seen(frame):
                    self.repeated += 1
                elif not self._is_left_out(frame):
                    self.show(frame)
                    count(len(self.lesson) - self.before)
        finally:
            source.close()

    def show(self, frame: Frame) -> list[str]:
        """One part; returns hints on its picture. Raises DataError and UsageError if it does not fit those before."""
        image = np.asarray(frame.image)
        self._check_roi(image)
        name, start = self._own_name(frame.frame_id), time.perf_counter()
        self.lesson.show(name, image, frame.pixel_format)
        self.seconds += time.perf_counter() - start
        self.names.add(name)
        self._last = image
        return self._noted(name, image)

    def seen(self, frame: Frame) -> bool:
        """True if the picture shows what the one shown last from this source does."""
        image = np.asarray(frame.image)
        return self._last is not None and image.dtype == np.uint8 and same_view(self._last, image)

    def check(self, *, skip_unreadable: bool) -> None:
        """After the recorded sources. Raises DataError for unreadable pictures, UsageError for names left out that no source has."""
        if self.unreadable and not skip_unreadable:
            raise DataError(
                f"{len(self.unreadable)} of the pictures cannot be read: {named(self.unreadable, '; ')}; copy them again, or teach the "
                "others with --skip-unreadable"
            )
        if self.never_met:
            known = self.never_met & set(self.lesson.shown.names[: self.before])
            why = "the engine of --add holds already, so teach anew without" if known else "no source has"
            raise UsageError(f"--leave-out names what {why}: {named(sorted(known or self.never_met))}")

    def _is_left_out(self, frame: Frame) -> bool:
        matching = self.left_out & {frame.frame_id, f"{self._source}/{frame.frame_id}"}
        self.never_met -= matching
        return bool(matching)

    def _own_name(self, frame_id: str) -> str:
        """The name of the file or frame; with the source before it, and a number behind it, where that is taken."""
        longer = f"{self._source}/{frame_id}"
        names = [frame_id, longer, *(f"{longer} ({number})" for number in range(2, len(self.names) + 3))]
        return next(name for name in names if name not in self.names)

    def _check_roi(self, image: NDArray[np.uint8]) -> None:
        if self.roi is None:
            return
        height, width = image.shape[:2]
        x, y, roi_width, roi_height = self.roi
        if x + roi_width > width or y + roi_height > height:
            raise UsageError(f"--roi {','.join(map(str, self.roi))} leaves the picture, which is {width}x{height} px")

    def _noted(self, name: str, image: NDArray[np.uint8]) -> list[str]:
        quality = measure(image)
        found = hints(quality, self._qualities)
        self._qualities.append(quality)
        for hint in found:
            self.hints.setdefault(hint.partition(" (")[0], []).append(name)
        return found


def named(names: Sequence[str], between: str = ", ") -> str:
    """The first few, and how many more there are."""
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return between.join([*names[:_MOST_NAMED], *more])
