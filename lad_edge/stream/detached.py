"""A sink goes in whose reader may stall (a pipe, a terminal); one that holds up neither the line nor its other sinks comes out.

A person's terminal whose connection sleeps, or a program behind a pipe that hangs, stops every write to it without a word
(reliability.md V6). So a thread writes; the line hands over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lad_edge.errors import SinkError
from lad_edge.stream.sinks import without_maps
from lad_edge.values import Frame, Reason, Result

if TYPE_CHECKING:
    from lad_edge.stream.sinks import Sink

_MOST_WAITING = 10_000  # records without pictures: some 10 MB
_BEHIND_S = 1.0


@dataclass(frozen=True)
class DetachedHealth:
    """codes: SINK_BEHIND while a record of a live source has waited for more than a second; lost: records that found no room."""

    name: str
    codes: tuple[str, ...]
    waiting: int
    lost: int
    detail: str


class Detached:
    """Hands results over to a thread that writes them, in order.

    wait_when_full: hold the line back once `most_waiting` records wait, as a recorded source wants it; False = leave the newest out.
    """

    def __init__(self, sink: Sink, name: str, *, wait_when_full: bool, most_waiting: int = _MOST_WAITING) -> None:
        self.name, self._sink, self._wait_when_full, self._most = name, sink, wait_when_full, most_waiting
        self._waiting: deque[tuple[float, Frame, Result]] = deque()  # since when, on the monotonic clock
        self._changed = threading.Condition()
        self._lost, self._closing = 0, False
        self._failure: SinkError | None = None
        self._writer = threading.Thread(target=self._work, name=name, daemon=True)
        self._writer.start()

    def write(self, frame: Frame, result: Result) -> None:
        """Hands one result over, without its pictures. Raises SinkError once the sink has failed."""
        job = time.monotonic(), replace(frame, image=None), without_maps(result)
        with self._changed:
            if self._wait_when_full:
                self._changed.wait_for(lambda: self._failure or len(self._waiting) < self._most)
            self._raise_failure()
            if len(self._waiting) < self._most:
                self._waiting.append(job)
                self._changed.notify_all()
            else:
                self._lost += 1

    def flush(self, timeout_s: float) -> bool:
        """Waits until everything is written; False when it is not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def close(self) -> None:
        """Waits until everything is written. Raises SinkError when it could not be."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join()
        self._sink.close()
        self._raise_failure()

    def health(self) -> DetachedHealth:
        """How its reader is doing now."""
        with self._changed:
            waits_s = time.monotonic() - self._waiting[0][0] if self._waiting else 0.0
            behind = waits_s > _BEHIND_S and not self._wait_when_full
            left_out = f"; {self._lost} records found no room and are left out" if self._lost else ""
            detail = f"nobody has read it for {waits_s:.0f} s{left_out}" if behind else ""
            codes = (Reason.SINK_BEHIND.value,) if behind else ()
            return DetachedHealth(self.name, codes, len(self._waiting), self._lost, detail)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._sink.write(*job)
            except SinkError as exc:
                self._fail(exc)
                return
            except Exception as exc:  # a writer that dies silently would look like a reader that stalls
                self._fail(SinkError(f"{self.name} broke down: {type(exc).__name__}: {exc}; please report this"))
                return
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()

    def _next(self) -> tuple[Frame, Result] | None:
        """The oldest record, which goes on waiting until it is written; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return self._waiting[0][1:] if self._waiting else None

    def _fail(self, failure: SinkError) -> None:
        with self._changed:
            self._failure = failure
            self._changed.notify_all()
