"""A source behind its capture thread, as a line has it; the test asks for the next frame of a kind and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lad_edge.sources.opening import open_source
from lad_edge.sources.source import Source
from lad_edge.stream.capture import Capture, Pace
from lad_edge.stream.mailbox import Mailbox
from lad_edge.values import Frame, Reason

WAIT_S = 20.0


class Watched:
    """Frames in order of their capture."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.mailbox = Mailbox(256)
        self.notices: list[str] = []
        self.capture = Capture(source, self.mailbox, self.notices.append, Pace())

    def next(self, fits: Callable[[Frame], bool]) -> Frame:
        """The next frame that fits, waiting for it."""
        limit_s = time.monotonic() + WAIT_S
        while time.monotonic() < limit_s:
            frame = self.mailbox.take(0.05)
            if frame is not None and fits(frame):
                return frame
            if self.mailbox.finished and self.capture.error is not None:
                raise self.capture.error
        raise AssertionError(f"no such frame within {WAIT_S} s; notices: {self.notices}")

    def good(self) -> Frame:
        """The next whole picture."""
        return self.next(lambda frame: frame.image is not None)

    def lost(self) -> Frame:
        """The next statement that the camera is lost."""
        return self.next(lambda frame: frame.fault is Reason.CAMERA_LOST)


@contextmanager
def watching(source: str | Source) -> Iterator[Watched]:
    """While the block runs, the source is read."""
    watched = Watched(open_source(source) if isinstance(source, str) else source)
    watched.capture.start()
    try:
        yield watched
    finally:
        assert watched.capture.stop(WAIT_S)
