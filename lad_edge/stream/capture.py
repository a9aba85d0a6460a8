"""A source goes in, its frames reach the mailbox: one thread that opens, reads, keeps pace and opens again."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lad_edge.errors import LadEdgeError, SourceError
from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.stream.mailbox import Mailbox
    from lad_edge.stream.sources import Source

_FIRST_RETRY_S, _SLOWEST_RETRY_S = 0.25, 2.0


@dataclass(frozen=True)
class Pace:
    """fps: how fast a recorded source is played, None = as fast as possible; max_frames: None = to the end."""

    fps: float | None = None
    max_frames: int | None = None


class Capture(threading.Thread):
    """The only thread that touches the source. A daemon: a driver that never returns cannot keep the process alive."""

    def __init__(self, source: Source, mailbox: Mailbox, notice: Callable[[str], None], pace: Pace) -> None:
        """notice: takes one line for a person."""
        super().__init__(name="capture", daemon=True)
        self.source, self.mailbox, self.notice = source, mailbox, notice
        self.error: LadEdgeError | None = None
        self.opened = threading.Event()
        self._stopping = threading.Event()
        self._period_s = 1.0 / pace.fps if pace.fps else 0.0
        self._most = pace.max_frames

    def stop(self, timeout_s: float) -> bool:
        """Ends the thread; False when it is still stuck in the driver after the timeout."""
        self._stopping.set()
        self.mailbox.close()
        if self.is_alive():
            self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        """Opens, reads to the end or the stop, closes. A failure is kept in `error`."""
        try:
            self.source.open()
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

    def _open_again(self, what: str) -> None:
        """Endless, with growing pauses: the line recovers without a person (reliability.md V8)."""
        self.notice(f"{what}; opening it again")
        pause_s = _FIRST_RETRY_S
        while not self._stopping.wait(pause_s):
            self.source.close()
            try:
                self.source.open()
            except SourceError:
                pause_s = min(2 * pause_s, _SLOWEST_RETRY_S)
            else:
                self.notice(f"{self.source.name} is open again")
                return

    def _keep_pace(self, due_s: float) -> float:
        if not self._period_s:
            return due_s
        due_s = max(due_s + self._period_s, time.monotonic())
        self._stopping.wait(due_s - time.monotonic())
        return due_s
