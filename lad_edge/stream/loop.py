"""A source, an inspector and sinks go in; the line runs until the end, the stop or a fault: take, inspect, write."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lad_edge.errors import EngineError, SinkError, SourceError
from lad_edge.sources.source import fault_now
from lad_edge.stream.capture import Capture, Pace
from lad_edge.stream.mailbox import Mailbox
from lad_edge.stream.stats import Stats
from lad_edge.values import Frame, Reason, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lad_edge.inspector import Inspector
    from lad_edge.sources.source import Source
    from lad_edge.stream.sinks import Sink

_POLL_S = 0.05  # how late a stop may be noticed; frames wake the loop at once
_OPEN_TIMEOUT_S = 15.0
_JOIN_S = 0.8
_LAST_WORDS_S = 0.3

CAPACITY = {"latest": 1, "all": 4}  # frames that wait; live sources lose the oldest one, recorded ones wait
_LIVE_ALL_CAPACITY = 64


def _ignore(_text: str) -> None:
    """The notice of a line to which nobody listens."""


@dataclass(frozen=True)
class LineOptions:
    """How frames flow.

    queue: "latest" (the newest frame wins) or "all" (in order); None = "latest" for live sources, else "all".
    first_seq: number of the first frame; stall_s: a live source silent for that long is reported as CAMERA_LOST.
    keep_warm_s: after that long without a frame the engine runs for nobody, again and again; None = it sleeps.
    stop: becomes true when the line shall end; notice: takes a line for a person.
    """

    queue: str | None = None
    pace: Pace = field(default_factory=Pace)
    first_seq: int = 1
    stall_s: float = 1.0
    keep_warm_s: float | None = None
    stop: Callable[[], bool] = lambda: False
    notice: Callable[[str], None] = _ignore


class Line:
    """One source through one inspector into the sinks; each captured frame gets exactly one record, in order of seq."""

    def __init__(
        self, source: Source, inspector: Inspector, sinks: Sequence[Sink], options: LineOptions | None = None
    ) -> None:
        self.source, self.inspector, self.sinks = source, inspector, list(sinks)
        self.options = options or LineOptions()
        self.stats = Stats()
        self.mailbox = _open_mailbox(source, self.options)
        self.capture = Capture(source, self.mailbox, self.options.notice, self.options.pace)
        self._stamps_at_take = not source.live and self.options.pace.fps is None
        self._writing = threading.Lock()
        self._taken: deque[Frame] = deque()  # out of the mailbox, not yet inspected
        self._lost, self._last_take_s = False, 0.0

    def run(self) -> Stats:
        """Runs to the end of the source or to the stop. Raises SourceError, SinkError; what was judged is written."""
        self.capture.start()
        try:
            self._wait_for_source()
            while not self.options.stop() and not self.mailbox.finished:
                self._step()
        finally:
            self.capture.stop(_JOIN_S)
            self._leave_none_behind()
        if self.capture.error is not None and not self.options.stop():
            raise self.capture.error
        return self.stats

    def abandon(self) -> bool:
        """Last words when the main thread hangs: an UNKNOWN for every part in flight. False when they are not written."""
        if not self._writing.acquire(timeout=_LAST_WORDS_S):
            return False
        # The lock is kept: a main thread that wakes up late must not write a second record.
        self.mailbox.close()
        try:
            self._write_unjudged()
        except SinkError:
            return False
        return True

    def _wait_for_source(self) -> None:
        limit_s = time.monotonic() + _OPEN_TIMEOUT_S
        while not self.capture.opened.wait(_POLL_S) and not self.options.stop():
            if time.monotonic() > limit_s:
                raise SourceError(
                    f"{self.source.name} did not open within {_OPEN_TIMEOUT_S:g} s; check its cable, power and address"
                )
        self._last_take_s = time.monotonic()

    def _step(self) -> None:
        keep_warm_s = self.options.keep_warm_s
        frames = self.mailbox.take(_POLL_S if keep_warm_s is None else min(_POLL_S, keep_warm_s))
        if not frames and keep_warm_s is not None:
            self._keep_warm()
        self._taken.extend(frames)
        while self._taken:
            self._handle(self._taken[0])
        self._watch_silence(frames)

    def _keep_warm(self) -> None:
        """A fault here is no part's fault: the next part meets it, and has it in its record."""
        with suppress(EngineError):
            self.inspector.keep_warm()

    def _handle(self, frame: Frame) -> None:
        if self._stamps_at_take:  # a recorded frame has waited in a file, not on a line
            frame = replace(frame, captured_ns=time.monotonic_ns())
        result = self.inspector.inspect(frame)
        with self._writing:
            self._taken.popleft()
            self._write(frame, result)

    def _write(self, frame: Frame, result: Result) -> None:
        """To every sink that still works, even if one of them fails; then the first failure is raised."""
        self.stats.add(result)
        failures = [failure for sink in list(self.sinks) if (failure := self._deliver(sink, frame, result))]
        if failures:
            raise failures[0]

    def _deliver(self, sink: Sink, frame: Frame, result: Result) -> SinkError | None:
        try:
            sink.write(frame, result)
        except SinkError as exc:
            self.sinks.remove(sink)
            return exc
        return None

    def _watch_silence(self, frames: Sequence[Frame]) -> None:
        """A driver that hangs in a read says nothing; the line does (reliability.md F2)."""
        now_s = time.monotonic()
        if frames:
            self._last_take_s = now_s
            self._lost = frames[-1].fault is Reason.CAMERA_LOST
        elif self.source.free_running and not self._lost and now_s - self._last_take_s > self.options.stall_s:
            self._lost = True
            detail = f"{self.source.name} has delivered nothing for {self.options.stall_s:g} s"
            self.options.notice(detail)
            self.mailbox.put(fault_now(f"{self.source.name}#silent", Reason.CAMERA_LOST, detail, self.source.name))

    def _leave_none_behind(self) -> None:
        with self._writing:
            self._write_unjudged()

    def _write_unjudged(self) -> None:
        """One UNKNOWN for each frame that was captured and has no verdict yet."""
        self._taken.extend(self.mailbox.take_all())
        while self._taken:
            frame = self._taken.popleft()
            self._write(frame, _stopped(frame, self.inspector))


def _open_mailbox(source: Source, options: LineOptions) -> Mailbox:
    queue = options.queue or ("latest" if source.live else "all")
    capacity = _LIVE_ALL_CAPACITY if queue == "all" and source.live else CAPACITY[queue]
    held_back = queue == "all" and not source.live
    return Mailbox(capacity, wait_when_full=held_back, first_seq=options.first_seq)


def _stopped(frame: Frame, inspector: Inspector) -> Result:
    return Result(
        seq=frame.seq,
        frame_id=frame.frame_id,
        verdict=Verdict.UNKNOWN,
        reasons=(frame.fault or Reason.STOPPING,),
        captured_ns=frame.captured_ns,
        utc_ns=frame.utc_ns,
        threshold=inspector.threshold,
        detail=frame.fault_detail or "the line was stopped before this part was judged",
        engine_sha256=inspector.bundle.sha256,
    )
