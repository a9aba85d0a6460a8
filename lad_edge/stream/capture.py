"""A source goes in, its frames reach the mailbox: one thread that opens, reads, keeps pace and opens again."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lad_edge.errors import LadEdgeError, SourceError
from lad_edge.sources.source import fault_now
from lad_edge.values import Frame, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lad_edge.sources.source import Source

_FIRST_RETRY_S, _SLOWEST_RETRY_S = 0.1, 1.0


@dataclass(frozen=True)
class Pace:
    """fps: how fast a recorded source is played, None = as fast as possible; max_frames: None = to the end."""

    fps: float | None = None
    max_frames: int | None = None


class Receiver(Protocol):
    """Whom frames are given to."""

    def put(self, frame: Frame) -> bool:
        """Takes a frame over; False once there is nobody who wants it."""

    def reopened(self) -> None:
        """The source is there again; its next frame may take a while."""

    def close(self) -> None:
        """No frame will come any more."""


class Capture(threading.Thread):
    """The only thread that reads the source. A daemon: a driver that never returns cannot keep the process alive.

    patient: a live source that does not open at the start is lost, as one that goes later: it is opened again without end. reopened: how
    often the source came back after it had been lost.
    """

    def __init__(
        self, source: Source, mailbox: Receiver, notice: Callable[[str], None], pace: Pace, *, patient: bool = False
    ) -> None:
        """notice: takes one line for a person."""
        super().__init__(name="capture", daemon=True)
        self.source, self.mailbox, self.notice = source, mailbox, notice
        self.patient = patient and source.live
        self.error: LadEdgeError | None = None
        self.reopened = 0
        self.opened = threading.Event()
        self._stopping = threading.Event()
        self._period_s = 1.0 / pace.fps if pace.fps else 0.0
        self._most = pace.max_frames

    @property
    def counts(self) -> dict[str, int]:
        """What the source counts, where it does, and how often it came back."""
        return {**getattr(self.source, "counts", {}), "reopened": self.reopened}

    def stop(self, timeout_s: float) -> bool:
        """Ends the thread; False when it is still stuck in the driver after the timeout."""
        self._stopping.set()
        self.source.interrupt()
        self.mailbox.close()
        if self.is_alive():
            self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        """Opens, reads to the end or the stop, closes. A failure is kept in `error`."""
        try:
            self._open()
            self.opened.set()
            self._read_all()
        except LadEdgeError as exc:
            self.error = exc
        except Exception as exc:
            self.error = SourceError(f"{self.source.name}: reading failed: {type(exc).__name__}: {exc}")
            self.error.__cause__ = exc
        finally:
            self.mailbox.close()
            self.opened.set()
            self.source.close()

    def _open(self) -> None:
        try:
            self.source.open()
        except SourceError as exc:
            if not self.patient:
                raise
            self.opened.set()  # parts that are triggered meanwhile are UNKNOWN, in time
            reason = getattr(exc, "reason", Reason.CAMERA_LOST)
            self._put_fault(reason, str(exc))
            self._open_again(str(exc), reason)

    def _read_all(self) -> None:
        due_s, captured = time.monotonic(), 0
        while captured != self._most and not self._stopping.is_set():
            frame = self.source.read()
            if frame is None or not self.mailbox.put(frame):
                return
            captured += 1
            if frame.fault is Reason.CAMERA_LOST:
                self._open_again(frame.fault_detail)
            due_s = self._keep_pace(due_s)

    def _open_again(self, what: str, told: Reason = Reason.CAMERA_LOST) -> None:
        """Endless, with growing pauses: the line recovers without a person (reliability.md V8). told: why, as the line knows."""
        self.notice(f"{what}; opening it again")
        for pause_s in _pauses():
            if self._stopping.wait(pause_s):
                return
            try:
                self.source.open()
            except SourceError as exc:
                told = self._tell(getattr(exc, "reason", told), told, str(exc))
            else:
                self.reopened += 1
                self.mailbox.reopened()
                self.notice(f"{self.source.name} is open again")
                return

    def _tell(self, reason: Reason, told: Reason, why: str) -> Reason:
        """Another reason than the last one, such as WRONG_CAMERA, is news for the line and for a person."""
        if reason is not told:
            self.notice(why)
            self._put_fault(reason, why)
        return reason

    def _put_fault(self, reason: Reason, why: str) -> None:
        self.mailbox.put(fault_now(f"{self.source.name}#closed", reason, why, self.source.name))

    def _keep_pace(self, due_s: float) -> float:
        if not self._period_s:
            return due_s
        due_s = max(due_s + self._period_s, time.monotonic())
        self._stopping.wait(due_s - time.monotonic())
        return due_s


def _pauses() -> Iterator[float]:
    """Seconds before each attempt: doubled up to a limit, each shortened at random, so that cameras on one switch are not in step."""
    pause_s = _FIRST_RETRY_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - not for security
        pause_s = min(2 * pause_s, _SLOWEST_RETRY_S)
