"""A source, an inspector and sinks go in; the line runs until the end, the stop or a fault: take, inspect, write."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from lad_edge.errors import EngineError, SinkError, SourceError
from lad_edge.sources.source import fault_now
from lad_edge.stream.capture import Capture, Pace
from lad_edge.stream.parts import Part, Parts, due_ns
from lad_edge.stream.sinks import OK_WHEN, Buffered, Durable, KeepsLate, held_up, not_durable
from lad_edge.stream.stats import Stats
from lad_edge.stream.triggers import FreeRun, Trigger
from lad_edge.stream.upkeep import Upkeep
from lad_edge.stream.vote import Vote
from lad_edge.values import Frame, Reason, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lad_edge.inspector import Inspector
    from lad_edge.sources.source import Source
    from lad_edge.stream.sinks import Sink

_POLL_S = 0.05  # how late a stop may be noticed; parts wake the loop at once
_OPEN_TIMEOUT_S = 15.0
_JOIN_S = 0.8
_LAST_WORDS_S = 0.3
_DURABLE_S = 1.0  # that an OK waits for the disk, where no deadline is given

CAPACITY = {"latest": 1, "all": 4}  # parts that wait; live sources lose the oldest one, recorded ones wait
_LIVE_ALL_CAPACITY = 64
_STOPPED = "the line was stopped before this part was judged"


def _ignore(_text: str) -> None:
    """The notice of a line to which nobody listens."""


@dataclass(frozen=True)
class LineOptions:
    """How parts flow.

    queue: "latest" (the newest part wins) or "all" (in order); None = "latest" for live sources that run freely, else "all".
    trigger: what makes a part of the pictures; None = each picture is one. vote: what becomes of several pictures of a part.
    deadline_ms: from capture to verdict, after which the part is UNKNOWN; None = no limit. ok_when: "durable" = an OK is put out when its
    record is on the disk, and is UNKNOWN (NOT_DURABLE) if that is not in time; some sink has to be `Durable`.
    first_seq: number of the first part; stall_s: a live source silent for that long is reported as CAMERA_LOST, and a triggered part that
    has not got its pictures by then is UNKNOWN. keep_warm_s: after that long without a part the engine runs for nobody, again and again;
    None = it sleeps. challenge_s: see `Upkeep`; patient: see `Capture`. stop: becomes true when the line shall end; notice: takes a line
    for a person.
    """

    queue: str | None = None
    trigger: Callable[[Parts], Trigger] | None = None
    vote: Vote = field(default_factory=Vote)
    deadline_ms: float | None = None
    ok_when: str = OK_WHEN[0]
    pace: Pace = field(default_factory=Pace)
    first_seq: int = 1
    stall_s: float = 1.0
    keep_warm_s: float | None = None
    challenge_s: float = 3600.0
    patient: bool = False
    stop: Callable[[], bool] = lambda: False
    notice: Callable[[str], None] = _ignore


class Line:
    """One source through one inspector into the sinks; each part gets exactly one record, in order of seq."""

    def __init__(
        self, source: Source, inspector: Inspector, sinks: Sequence[Sink], options: LineOptions | None = None
    ) -> None:
        self.source, self.inspector, self.sinks = source, inspector, list(sinks)
        self.options = options or LineOptions()
        self.stats = Stats()
        self.parts = self._open_parts()
        self.trigger = (self.options.trigger or FreeRun)(self.parts)
        self.trigger.expose, self.trigger.notice = source.trigger, self.options.notice
        self.capture = Capture(
            source, self.trigger, self.options.notice, self.options.pace, patient=self.options.patient
        )
        self._deadlines = threading.Thread(target=self._watch_deadlines, name="deadlines", daemon=True)
        self.beat: Callable[[], None] = lambda: None  # called while the line moves, many times a second
        self.warnings: Callable[[], tuple[Reason, ...]] = tuple  # that stand beside every verdict; must not wait
        self._writing = threading.Lock()
        self._next: tuple[Inspector, Callable[[], None]] | None = None
        self._pictures = 0  # that the inspector has seen
        self._late_before = False  # the part before this one
        self._upkeep = Upkeep(self.options.challenge_s, self.options.notice)
        self._ended = threading.Event()
        self._failure: SinkError | None = None  # of a sink, met while another thread wrote

    def run(self) -> Stats:
        """Runs to the end of the source or to the stop. Raises SourceError, SinkError; what was judged is written."""
        self.capture.start()
        self._deadlines.start()
        try:
            self._wait_for_source()
            if not self.parts.closed:
                self.trigger.start()
            while not self.options.stop() and not self.parts.finished:
                self.beat()
                self._step()
        finally:
            self.trigger.close()
            self.capture.stop(_JOIN_S)
            self._swap_now()
            self.parts.settle_all(Reason.STOPPING, _STOPPED)
            self._ended.set()
            self._write_settled()
        if self.capture.error is not None and not self.options.stop():
            raise self.capture.error
        return self.stats

    def swap(self, inspector: Inspector, then: Callable[[], None] = lambda: None) -> None:
        """From the next part on this inspector judges; the one that it replaces is closed once it is idle. then: called at that moment."""
        with self._writing:
            replaced, self._next = self._next, (inspector, then)
        if replaced is not None:
            replaced[0].close()

    def exchange(self, old: Sequence[Sink], new: Sequence[Sink]) -> None:
        """From the next record on the new sinks are written to and the old ones are not: none is written to both, or to neither."""
        with self._writing:
            self.parts.number_from(max((getattr(sink, "next_seq", 1) for sink in new), default=1))
            self.sinks = [*new, *(sink for sink in self.sinks if sink not in old)]

    def abandon(self) -> bool:
        """Last words when the main thread hangs: an UNKNOWN for every open part. False when they are not written."""
        if not self._writing.acquire(timeout=_LAST_WORDS_S):
            return False
        # The lock is kept: a main thread that wakes up late must not write a second record.
        self.parts.close()
        self.parts.settle_all(Reason.STOPPING, _STOPPED)
        try:
            self._write_in_order()
        except SinkError:
            return False
        flushed = [
            sink.flush(_LAST_WORDS_S) for sink in self.sinks if isinstance(sink, Buffered)
        ]  # all, even if one fails
        return all(flushed)

    def _open_parts(self) -> Parts:
        source, options = self.source, self.options
        queue = options.queue or ("latest" if source.free_running and options.trigger is None else "all")
        held_back = queue == "all" and not source.live
        return Parts(
            _LIVE_ALL_CAPACITY if queue == "all" and source.live else CAPACITY[queue],
            self._unjudged,
            wait_when_full=held_back,
            first_seq=options.first_seq,
            clock_runs=source.live
            or options.pace.fps is not None,  # a recorded frame has waited in a file, not on a line
        )

    def _wait_for_source(self) -> None:
        limit_s = time.monotonic() + _OPEN_TIMEOUT_S
        while not self.capture.opened.wait(_POLL_S) and not self.options.stop():
            if time.monotonic() > limit_s:
                raise SourceError(
                    f"{self.source.name} did not open within {_OPEN_TIMEOUT_S:g} s; check its cable, power and address"
                )

    def _step(self) -> None:
        keep_warm_s = self.options.keep_warm_s
        part = self.parts.take(_POLL_S if keep_warm_s is None else min(_POLL_S, keep_warm_s))
        self._write_settled()
        self._swap_now()
        if part is not None:
            self._judge(part)
        elif keep_warm_s is not None:
            self._keep_warm()
        self.inspector = self._upkeep.challenge(self.inspector, idle=part is None)
        self._watch_silence()

    def _keep_warm(self) -> None:
        """A fault here is no part's fault: the next part meets it, and has it in its record."""
        with suppress(EngineError):
            self.inspector.keep_warm()

    def _swap_now(self) -> None:
        with self._writing:
            following, self._next = self._next, None
        if following is not None:
            self.inspector.close()
            self.inspector, then = following
            then()

    def _judge(self, part: Part) -> None:
        results = [self._inspect(frame) for frame in part.frames]
        chosen, result = self.options.vote(results)
        reasons = (*result.reasons, *self.warnings())
        result = replace(result, seq=part.seq, part_id=part.part_id, reasons=reasons)
        self.parts.expire(*self._limits_ns)  # what is overdue by now is late, whoever notices first
        if self.parts.settle(part, result, chosen):
            self._write_settled()
            self._late_before = False
        else:
            self._record_late(part, result)
        self.inspector = self._upkeep.after(self.inspector, result)

    def _record_late(self, part: Part, result: Result) -> None:
        """UNKNOWN stays; what came is kept beside it (reliability.md F22)."""
        late = replace(result, reasons=tuple(dict.fromkeys((*result.reasons, Reason.LATE_RESULT))))

        def write_late(sink: Sink) -> None:
            if isinstance(sink, KeepsLate):
                sink.write_late(late)

        if not self._late_before:
            took_ms = (time.monotonic_ns() - (part.clock_ns or part.triggered_ns)) / 1e6
            self.options.notice(
                f"part {part.seq}: {late.verdict.value} came after {took_ms:.1f} ms, too late; UNKNOWN stays; "
                "those that follow it late are counted"
            )
        self._late_before = True
        with self._writing:
            self._write_in_order()
            self.stats.add_late(late)
            self._to_each(write_late)

    def _inspect(self, frame: Frame) -> Result:
        """Pictures are numbered for the gate, which looks for repeats and order; parts have numbers of their own."""
        self._pictures += 1
        if not self.parts.clock_runs:
            frame = replace(frame, captured_ns=time.monotonic_ns())
        return self.inspector.inspect(replace(frame, seq=self._pictures))

    def _watch_deadlines(self) -> None:
        """A thread of its own: the engine may hang, the verdict is due all the same."""
        while not self._ended.is_set():
            pause_s = self.parts.expire(*self._limits_ns)
            try:
                self._write_settled()
            except SinkError as exc:
                self._failure = exc
            self.parts.wait_for_change(pause_s)

    @cached_property
    def _limits_ns(self) -> tuple[int | None, int | None]:
        """From the clock of a part to its result, and from its trigger to its last picture."""
        deadline_ms, triggered = self.options.deadline_ms, self.options.trigger is not None
        return (
            None if deadline_ms is None else round(1e6 * deadline_ms),
            round(1e9 * self.options.stall_s) if triggered else None,
        )

    def _write_settled(self) -> None:
        with self._writing:
            self._write_in_order()
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _write_in_order(self) -> None:
        while (part := self.parts.leave()) is not None:
            self._write(part)

    def _write(self, part: Part) -> None:
        """Puts the result of a part out: an OK, where that is asked for, once it is on the disk."""
        frame, result, stored_by = part.frame(), self._in_time(part), None
        if result.verdict is Verdict.OK and self.options.ok_when == "durable":
            stored_by = next((sink for sink in self.sinks if isinstance(sink, Durable)), None)
            result = self._durable(stored_by, frame, result, self._limit_s(part))
        self.stats.add(result)
        try:
            self._to_each(lambda sink: None if sink is stored_by else sink.write(frame, result))
        finally:
            self.parts.tell(part, result)

    def _in_time(self, part: Part) -> Result:
        """Its result; UNKNOWN where what comes before it has held an OK or NG up beyond the deadline (reliability.md G10)."""
        result, (deadline_ns, _) = part.result, self._limits_ns
        assert result is not None  # noqa: S101 - settled parts leave, no others
        if deadline_ns is None or part.clock_ns is None or time.monotonic_ns() <= part.clock_ns + deadline_ns:
            return result
        return result if result.verdict is Verdict.UNKNOWN else held_up(result)

    def _durable(self, sink: Durable | None, frame: Frame, result: Result, limit_s: float) -> Result:
        """What stands once the sink has stored an OK, or could not."""
        if sink is None:
            return not_durable(result, "there is no outbox")
        try:
            return sink.write_durable(frame, result, limit_s)
        except SinkError as exc:
            self._failure = exc
            return not_durable(result, str(exc))

    def _limit_s(self, part: Part) -> float:
        """Until when an OK may wait for the disk, on the monotonic clock."""
        deadline_ns, _ = self._limits_ns
        if deadline_ns is None or part.clock_ns is None:
            return time.monotonic() + _DURABLE_S
        return due_ns(part.clock_ns, deadline_ns) / 1e9

    def _to_each(self, write: Callable[[Sink], None]) -> None:
        """To every sink that still works, even if one of them fails; then the first failure is raised."""
        failures = [failure for sink in list(self.sinks) if (failure := self._try(sink, write))]
        if failures:
            raise failures[0]

    def _try(self, sink: Sink, write: Callable[[Sink], None]) -> SinkError | None:
        try:
            write(sink)
        except SinkError as exc:
            failure = exc
        except Exception as exc:  # of one sink: this record is due to the others, and to the next deadline
            failure = SinkError(f"{type(sink).__name__} broke down: {type(exc).__name__}: {exc}; please report this")
            failure.__cause__ = exc
        else:
            return None
        self.sinks.remove(sink)
        return failure

    def _watch_silence(self) -> None:
        """A driver that hangs in a read says nothing; the line does (reliability.md F2)."""
        silent_s = time.monotonic() - self.trigger.heard_s
        if self.source.free_running and not self.trigger.lost and silent_s > self.options.stall_s:
            detail = f"{self.source.name} has delivered nothing for {self.options.stall_s:g} s"
            self.options.notice(detail)
            self.trigger.put(fault_now(f"{self.source.name}#silent", Reason.CAMERA_LOST, detail, self.source.name))

    def _unjudged(self, part: Part, reason: Reason, detail: str) -> Result:
        """What is said of a part that nobody judged: its own fault, or why nobody did."""
        frame = part.frame()
        return Result(
            seq=part.seq,
            part_id=part.part_id,
            frame_id=frame.frame_id,
            verdict=Verdict.UNKNOWN,
            reasons=(frame.fault or reason, *self.warnings()),
            captured_ns=frame.captured_ns,
            utc_ns=frame.utc_ns,
            threshold=self.inspector.threshold,
            detail=frame.fault_detail or detail,
            engine_sha256=self.inspector.bundle.sha256,
        )
