"""What every source of frames can do, and the two frames that all of them make: a picture, or why there is none."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from lad_edge.values import Frame, Reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Source(Protocol):
    """Where frames come from. Only the capture thread calls the methods; `trigger` and `interrupt` may come from any thread.

    live: frames come as they please, and never end; otherwise the source may be held back and read to its end.
    free_running: a live source at its own steady rate, so that silence is a fault; False = something triggers each frame.
    """

    name: str
    live: bool
    free_running: bool

    def open(self) -> None:
        """Opens, or opens again. Raises SourceError that says what was tried and what to do."""

    def read(self) -> Frame | None:
        """The next frame, waiting for it; a frame with a `fault` when there is no picture; None at the end or when interrupted."""

    def close(self) -> None:
        """Frees what `open` took; harmless when there is nothing to free."""

    def trigger(self) -> None:
        """Takes a picture now, where the source waits for that; nothing elsewhere. From any thread."""

    def interrupt(self) -> None:
        """Makes an `open` or `read` that waits return soon, and every later one at once."""


class Recorded:
    """Base of sources that are read to their end: nothing is open but between `read` calls, and no `read` waits for long."""

    live = False
    free_running = False

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to free."""

    def trigger(self) -> None:
        """Nothing waits for it."""

    def interrupt(self) -> None:
        """No call waits."""


class Waiting:
    """Base of live sources whose `read` waits in this process, for a time or for a file."""

    live = True

    def __init__(self) -> None:
        self._interrupted = threading.Event()

    def close(self) -> None:
        """Nothing stays open between two pictures."""

    def trigger(self) -> None:
        """Nothing waits for it."""

    def interrupt(self) -> None:
        """Ends a `read` that waits."""
        self._interrupted.set()


def frame_now(frame_id: str, image: NDArray[np.generic] | None, pixel_format: str = "bgr8", source: str = "") -> Frame:
    """A frame captured at this moment; its part gets a number."""
    return Frame(0, frame_id, image, pixel_format, time.monotonic_ns(), time.time_ns(), source=source)


def fault_now(frame_id: str, fault: Reason, detail: str, source: str = "") -> Frame:
    """The statement, made at this moment, that there is no picture."""
    return Frame(0, frame_id, None, "none", time.monotonic_ns(), time.time_ns(), fault, detail, source=source)
