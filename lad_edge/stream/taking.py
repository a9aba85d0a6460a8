"""A live source goes in, pictures of single parts come out, by the clock or by a key; a folder keeps them without loss."""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from select import select
from typing import TYPE_CHECKING

import cv2

from lad_edge.errors import SinkError, SourceError
from lad_edge.stream.capture import Capture, Pace
from lad_edge.stream.mailbox import Mailbox
from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from lad_edge.sources.source import Source
    from lad_edge.values import Frame

SILENT_S = 5.0  # without a picture after it has opened, a source is given up
_POLL_S = 0.05
_STUCK_S = 0.7  # for the driver to let go; a signal leaves the process 1.5 s
_NUMBERED = re.compile(r"part-(\d{4,})\.png", re.ASCII)


class Shutter:
    """Takes pictures from a live source. Owns the thread that reads it: use it in a `with`."""

    def __init__(self, source: Source, every_s: float | None, *, stopped: Callable[[], bool]) -> None:
        """every_s: seconds between two pictures, None = at the Enter key alone, which always takes one. stopped: True ends `take`."""
        self.source, self.every_s, self.stopped = source, every_s, stopped
        self.mailbox = Mailbox()
        self.capture = Capture(source, self.mailbox, lambda _: None, Pace())
        self._due_ns: int | None = None  # frames captured from then on are taken; None = not yet known
        self._seen_s = 0.0

    def take(self) -> Frame | None:
        """The next picture that is due, waiting for it; None when stopped. Raises SourceError if the source does not open or has gone."""
        while not self.stopped():
            if enter_pressed():
                self._due_ns = time.monotonic_ns()
            frame = self.mailbox.take(_POLL_S)
            if frame is not None:
                self._check(frame)
                if frame.image is not None and self._is_due(frame):
                    return frame
            self._watch_silence()
        return None

    @property
    def stuck(self) -> bool:
        """After the `with`: the thread never came back from its driver."""
        return self.capture.is_alive()

    def __enter__(self) -> Self:
        self.capture.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.capture.stop(_STUCK_S)

    def _check(self, frame: Frame) -> None:
        if frame.fault is Reason.CAMERA_LOST:
            raise SourceError(frame.fault_detail)
        if frame.image is not None:
            self._seen_s = time.monotonic()

    def _is_due(self, frame: Frame) -> bool:
        """The first picture waits for one period as well: a camera that has just opened still looks for its exposure."""
        due = self._due_ns is not None and frame.captured_ns >= self._due_ns
        if due or self._due_ns is None:
            self._due_ns = sys.maxsize if self.every_s is None else frame.captured_ns + round(self.every_s * 1e9)
        return due

    def _watch_silence(self) -> None:
        if self.capture.error is not None:
            raise self.capture.error
        if not self.capture.opened.is_set():
            self._seen_s = time.monotonic()
        elif self.mailbox.finished:
            raise SourceError(f"{self.source.name} has ended")
        elif time.monotonic() - self._seen_s > SILENT_S:
            raise SourceError(f"{self.source.name} has delivered no picture for {SILENT_S:g} s")


class KeptPictures:
    """A folder of lossless pictures, part-0001.png and so on; numbers go on after those that are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved = 0
        numbers = [int(found[1]) for path in folder.glob("part-*.png") if (found := _NUMBERED.fullmatch(path.name))]
        self._next = max(numbers, default=0) + 1

    @property
    def next_name(self) -> str:
        """Of the file that `save` will write."""
        return f"part-{self._next:04}.png"

    def save(self, image: NDArray[np.uint8]) -> None:
        """Writes (H, W, 3) BGR or (H, W) grey; the file is whole or not there. Raises SinkError."""
        path, unfinished = self.folder / self.next_name, self.folder / f".{self.next_name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(cv2.imencode(".png", image)[1].tobytes())
            unfinished.replace(path)
        except OSError as exc:
            with suppress(OSError):
                unfinished.unlink()
            raise SinkError(f"{path}: cannot be written ({exc.strerror}); choose another folder: --keep") from exc
        self._next += 1
        self.saved += 1


def enter_pressed() -> bool:
    """True if a line waits on the terminal that standard input is; the line is read."""
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        return False
    return bool(select([sys.stdin], [], [], 0)[0]) and bool(sys.stdin.readline())
