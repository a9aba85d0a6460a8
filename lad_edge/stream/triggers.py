"""Pictures of a source go in; a trigger says which of them are parts: each one, or those that were asked for."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.stream.parts import Part, Parts
    from lad_edge.values import Frame


_GONE = (Reason.CAMERA_LOST, Reason.CAMERA_BUSY, Reason.WRONG_CAMERA)


class Trigger(ABC):
    """What the capture thread gives each picture to.

    heard_s: when the source last said something, on the monotonic clock; fault: what it said, if it was that there is no camera.
    expose: lets a camera that waits for it take a picture; notice: takes a line for a person; the line sets both. trouble: why nobody can
    ask for a part, "" = all is well.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts, self.heard_s = parts, time.monotonic()
        self.fault: Frame | None = None
        self.expose: Callable[[], None] = lambda: None
        self.notice: Callable[[str], None] = lambda _: None
        self.trouble = ""

    def start(self) -> None:
        """The source is open."""
        self.heard_s = time.monotonic()

    def put(self, frame: Frame) -> bool:
        """Takes a picture over; False once the line ends."""
        self.heard_s, self.fault = time.monotonic(), frame if frame.fault in _GONE else None
        return self.offer(frame)

    def reopened(self) -> None:
        """The camera is there again: the next part need not pay for its absence, though no picture has come yet."""
        self.heard_s, self.fault = time.monotonic(), None

    @property
    def lost(self) -> bool:
        """There is no camera."""
        return self.fault is not None

    @abstractmethod
    def offer(self, frame: Frame) -> bool:
        """What this trigger does with a picture; False once the line ends."""

    def close(self) -> None:
        """No part comes any more."""
        self.parts.close()


class FreeRun(Trigger):
    """Each picture is a part: free-running cameras, files, and cameras whose own input is triggered."""

    def offer(self, frame: Frame) -> bool:
        """A part."""
        return self.parts.put(frame)


class OnDemand(Trigger):
    """A part is asked for; the next pictures that are captured are its own, and those between parts are let go."""

    def __init__(self, parts: Parts, pictures: int = 1) -> None:
        """pictures: of each part."""
        super().__init__(parts)
        self.pictures = pictures
        self._fault: Frame | None = None  # the last thing that the camera said, if it was a fault

    def fire(self, part_id: str = "") -> Part | None:
        """A part from now on; None once the line ends. While the camera is lost it is UNKNOWN at once. From any thread."""
        others_wait = self.parts.wanting
        part = self.parts.trigger(part_id, self.pictures)
        fault = self._fault
        if not others_wait:  # their pictures are under way, and each is followed by the next one
            self.expose()
        if part is not None and fault is not None:
            self.parts.add(replace(fault, captured_ns=time.monotonic_ns(), utc_ns=time.time_ns()))
        return part

    def reopened(self) -> None:
        """Parts are asked for again."""
        super().reopened()
        self._fault = None

    def offer(self, frame: Frame) -> bool:
        """To the part that waits for it; a fault is the fault of all that wait."""
        self._fault = frame if frame.fault is not None else None
        taken = self.parts.add(frame)
        while taken and self._fault is not None:
            taken = self.parts.add(frame)
        if self.parts.wanting:
            self.expose()
        return not self.parts.closed


class Interval(OnDemand):
    """A part each period, by the monotonic clock, whether or not there are pictures."""

    def __init__(self, parts: Parts, period_s: float, pictures: int = 1) -> None:
        super().__init__(parts, pictures)
        self.period_s = period_s
        self._stopping = threading.Event()
        self._clock = threading.Thread(target=self._fire, name="interval", daemon=True)

    def start(self) -> None:
        """The first part is due now."""
        super().start()
        self._clock.start()

    def close(self) -> None:
        """Stops the clock."""
        self._stopping.set()
        super().close()

    def _fire(self) -> None:
        due_s = time.monotonic()
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            self.fire()
            due_s = max(due_s + self.period_s, time.monotonic())
