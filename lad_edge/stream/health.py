"""How a line is doing goes in; live, ready or degraded comes out, with the codes of what is not as it should be (reliability.md §1.1).

/metrics, /health, the operator's page and systemd show the same of it, and its warnings stand beside every verdict.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import Field, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from lad_edge.stream.clock import WallClock
from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lad_edge.stream.loop import Line
    from lad_edge.stream.watchdog import Beats
    from lad_edge.values import Frame, Result

WARNINGS = frozenset(
    {
        *(Reason.THERMAL_MARGIN, Reason.ECC_RISING, Reason.SINK_BEHIND, Reason.DISK_LOW),
        *(Reason.CLOCK_UNSYNCED, Reason.CPU_FALLBACK, Reason.LATE_RESULT),
    }
)
_ENGINE = frozenset(
    {
        *(Reason.ENGINE_NOT_VERIFIED, Reason.SELF_TEST_FAILED, Reason.GPU_FAULT, Reason.GPU_MEMORY),
        *(Reason.ENGINE_CRASH, Reason.OUTPUT_STUCK),
    }
)
_LINE = frozenset({Reason.WRONG_PRODUCT, Reason.INTERNAL})
_DEGRADING = WARNINGS | {Reason.NOT_DURABLE}  # parts can be judged all the same

_PERIOD_S = 0.5
_JOIN_S = 1.0
_LATE_S = 10.0  # how long a late result is remembered
_MARGIN = 0.7  # of the deadline (reliability.md F18)
_LATENCIES, _LEAST_LATENCIES = 200, 50  # of which the p99 is taken


@dataclass(frozen=True)
class Trouble:
    """where: "camera", "engine", "line", "trigger", "clock", "health", or the name of an output; detail: for a person."""

    code: Reason
    where: str
    detail: str = ""


class State(Protocol):
    """What an output says of itself: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str:
        """For people, without credentials."""

    @property
    def codes(self) -> tuple[str, ...]:
        """What is not as it should be."""

    @property
    def detail(self) -> str:
        """One line for a person."""


class Health:
    """Of one line, among whose sinks it is. A thread of its own looks twice a second, so that nobody waits for what it asks.

    troubles: what it saw last. states: of the outputs. clock: that labels the records.
    """

    def __init__(self, beats: Beats, states: Callable[[], Sequence[State]], notice: Callable[[str], None]) -> None:
        """beats: of the line's stages; notice: takes a line for a person each time that the troubles change."""
        self.states = states
        self.troubles: tuple[Trouble, ...] = (Trouble(Reason.STARTING, "line", "the source is being opened"),)
        self._beats, self._notice = beats, notice
        self._line: Line | None = None
        self._last: Result | None = None
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES)
        self._late, self._late_s = 0, -_LATE_S
        self.clock = WallClock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)

    @property
    def ready(self) -> bool:
        """Parts can be judged."""
        return all(trouble.code in _DEGRADING for trouble in self.troubles)

    @property
    def status(self) -> str:
        """`live`: it answers, and judges nothing; `degraded`: it judges, and something is not as it should be; `ready`."""
        if not self.ready:
            return "live"
        return "degraded" if self.troubles else "ready"

    @property
    def codes(self) -> tuple[str, ...]:
        """Of the troubles, each once."""
        return tuple(dict.fromkeys(trouble.code.value for trouble in self.troubles))

    def warnings(self) -> tuple[Reason, ...]:
        """What stands beside a verdict that is given now, and does not change it."""
        return tuple(dict.fromkeys(trouble.code for trouble in self.troubles if trouble.code in WARNINGS))

    def follow(self, line: Line) -> None:
        """Watches this line from now on."""
        self._line, line.warnings = line, self.warnings
        self._thread.start()

    def write(self, _frame: Frame, result: Result) -> None:
        """Remembers the last result, and how long the last ones took."""
        self._last = result
        if result.score is not None and "total" in result.stages_us:
            self._latencies_ms.append(result.stages_us["total"] / 1e3)

    def close(self) -> None:
        """The line has ended."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        self.troubles = (Trouble(Reason.STOPPING, "line", "the line has ended"),)

    def look(self) -> None:
        """Asks everything once."""
        before, self.troubles = self.troubles, tuple(self._of_line()) + tuple(self._of_outputs())
        if _shown(before) != _shown(self.troubles):
            self._notice(f"{self.status}{_shown(self.troubles)}")

    def _watch(self) -> None:
        while not self._ended.wait(_PERIOD_S):
            self._look_whatever_happens()

    def _look_whatever_happens(self) -> None:
        """A thread that dies silently would leave what it saw last standing for ever."""
        try:
            self.look()
        except Exception as exc:  # of an output, which everybody else can do without
            self.troubles = (Trouble(Reason.INTERNAL, "health", f"{type(exc).__name__}: {exc}"),)

    def _of_line(self) -> Iterator[Trouble]:
        line = self._line
        if line is None or not line.capture.opened.is_set():
            yield Trouble(Reason.STARTING, "line", "the source is being opened")
            return
        if stuck := self._beats.stuck():
            yield Trouble(Reason.INTERNAL, "line", f"it does not move: {', '.join(stuck)}")
        fault = line.trigger.fault
        if fault is not None and fault.fault is not None:
            yield Trouble(fault.fault, "camera", fault.fault_detail)
        if line.trigger.trouble:
            yield Trouble(Reason.TRIGGER_LOST, "trigger", line.trigger.trouble)
        yield from self._of_last_result()
        yield from self._of_deadline(line)
        if doubt := self.clock.doubt():
            yield Trouble(Reason.CLOCK_UNSYNCED, "clock", doubt)

    def _of_last_result(self) -> Iterator[Trouble]:
        last = self._last
        for reason in () if last is None else last.reasons:
            if reason in _ENGINE | _LINE:
                yield Trouble(reason, "engine" if reason in _ENGINE else "line", last.detail if last else "")

    def _of_deadline(self, line: Line) -> Iterator[Trouble]:
        late, now_s = sum(line.stats.late.copy().values()), time.monotonic()
        if late != self._late:
            self._late, self._late_s = late, now_s
        if now_s - self._late_s < _LATE_S:
            yield Trouble(Reason.LATE_RESULT, "engine", f"{late} verdicts came after their deadline")
        limit_ms, took_ms = line.options.deadline_ms, sorted(self._latencies_ms.copy())
        if limit_ms is not None and len(took_ms) >= _LEAST_LATENCIES:
            p99_ms = took_ms[int(0.99 * len(took_ms))]
            if p99_ms > _MARGIN * limit_ms:
                yield Trouble(Reason.THERMAL_MARGIN, "engine", f"p99 is {p99_ms:.1f} of {limit_ms:g} ms")

    def _of_outputs(self) -> Iterator[Trouble]:
        for state in self.states():
            for code in state.codes:
                yield Trouble(Reason(code), state.name, state.detail)


def _shown(troubles: Sequence[Trouble]) -> str:
    """Without details, which change all the time."""
    return "".join(f"; {trouble.code.value} {trouble.where}" for trouble in troubles)
