"""Live, ready, degraded: by the camera, the engine, the deadline and the outputs, and beside the verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from scripted import CollectingSink, ScriptedSource, frame, lost
from tiny import good_picture

from lad_edge.inspector import Inspector, Options
from lad_edge.stream.health import Health, Trouble
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.watchdog import STALE_S, Beats
from lad_edge.values import Frame, Reason, Result, Verdict

OpenInspector = Callable[..., Inspector]


@dataclass(frozen=True)
class Output:
    """What an output says of itself."""

    name: str
    codes: tuple[str, ...]
    detail: str = ""


class Watched:
    """A line that the test moves by hand, and its health."""

    def __init__(self, inspector: Inspector, deadline_ms: float | None = None) -> None:
        self.told: list[str] = []
        self.states: list[Output] = []
        self.beats = Beats()
        self.health = Health(self.beats, lambda: self.states, self.told.append)
        self.sink = CollectingSink()
        self.line = Line(
            ScriptedSource([frame(good_picture(0))], live=False),
            inspector,
            [self.sink, self.health],
            LineOptions(deadline_ms=deadline_ms),
        )
        self.health.follow(self.line)

    def opened(self) -> None:
        self.line.capture.opened.set()
        self.health.look()

    def judged(self, **changes: object) -> None:
        result = Result(1, "part", Verdict.OK, (Reason.SCORE_WITHIN_LIMIT,), 0, 0, score=0.1)
        self.health.write(frame(None), replace(result, **changes))  # type: ignore[arg-type]
        self.health.look()


@pytest.fixture
def watched(open_inspector: OpenInspector) -> Iterator[Watched]:
    watched = Watched(open_inspector(Options()), deadline_ms=100.0)
    yield watched
    watched.health.close()


def test_a_line_is_live_until_its_source_is_open(watched: Watched) -> None:
    assert (watched.health.status, watched.health.codes) == ("live", ("STARTING",))
    watched.opened()
    assert (watched.health.status, watched.health.codes) == ("ready", ())
    watched.health.close()
    assert watched.health.codes == ("STOPPING",)


def test_a_lost_camera_is_no_line_that_judges_until_its_next_picture(watched: Watched) -> None:
    watched.opened()
    watched.line.trigger.put(lost())
    watched.health.look()
    assert not watched.health.ready
    assert watched.health.troubles == (Trouble(Reason.CAMERA_LOST, "camera", "scripted: the cable is out"),)
    watched.line.trigger.put(frame(good_picture(0)))
    watched.health.look()
    assert watched.health.status == "ready"


def test_an_output_that_is_behind_degrades_and_warns_beside_each_verdict(watched: Watched) -> None:
    watched.opened()
    watched.states = [Output("mqtt://broker/x", ("SINK_BEHIND", "NOT_DURABLE"), "no answer")]
    watched.health.look()
    assert watched.health.status == "degraded"
    assert watched.health.ready
    watched.line.run()
    (result,) = watched.sink.results
    assert (result.verdict, result.reasons) == (Verdict.OK, (Reason.SCORE_WITHIN_LIMIT, Reason.SINK_BEHIND))


def test_what_the_last_record_says_of_the_engine_holds_until_the_next_one(watched: Watched) -> None:
    watched.opened()
    watched.judged(verdict=Verdict.UNKNOWN, reasons=(Reason.GPU_FAULT,), detail="Xid 79", score=None)
    assert watched.health.troubles == (Trouble(Reason.GPU_FAULT, "engine", "Xid 79"),)
    assert not watched.health.ready
    watched.judged()
    assert watched.health.status == "ready"


def test_a_line_that_does_not_move_cannot_judge(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.opened()
    watched.beats.beat("line")
    now_s = time.monotonic()
    monkeypatch.setattr("lad_edge.stream.watchdog.time.monotonic", lambda: now_s + STALE_S + 1)
    watched.health.look()
    assert watched.health.codes == ("INTERNAL",)


def test_latencies_near_the_deadline_and_late_results_are_warnings(watched: Watched) -> None:
    watched.opened()
    for _ in range(60):
        watched.judged(stages_us={"total": 69_000.0})
    assert watched.health.status == "ready"
    for _ in range(3):
        watched.judged(stages_us={"total": 90_000.0})
    watched.line.stats.late[Verdict.OK] += 1
    watched.health.look()
    assert watched.health.warnings() == (Reason.LATE_RESULT, Reason.THERMAL_MARGIN)
    assert watched.health.ready


def test_each_change_is_told_once(watched: Watched) -> None:
    watched.opened()
    watched.states = [Output("csv:x", ("SINK_BEHIND",), "first")]
    watched.health.look()
    watched.states = [Output("csv:x", ("SINK_BEHIND",), "second")]
    watched.health.look()
    watched.states = []
    watched.health.look()
    assert watched.told == ["ready", "degraded; SINK_BEHIND csv:x", "ready"]


def test_its_own_thread_looks(watched: Watched) -> None:
    watched.line.capture.opened.set()
    limit_s = time.monotonic() + 20.0
    while watched.health.status != "ready":
        assert time.monotonic() < limit_s
        time.sleep(0.01)


def test_an_output_whose_state_cannot_be_asked_is_a_trouble_until_it_can(watched: Watched) -> None:
    def broken() -> list[Output]:
        raise KeyError("scripted: a fault in the code of an output")

    def seen(status: str) -> bool:
        limit_s = time.monotonic() + 20.0
        while watched.health.status != status and time.monotonic() < limit_s:
            time.sleep(0.01)
        return watched.health.status == status

    watched.opened()
    watched.health.states = broken
    assert seen("live")
    assert watched.health.troubles[0].where == "health"
    watched.health.states = list
    assert seen("ready")


def test_parts_that_nobody_judged_carry_warnings_too(watched: Watched) -> None:
    watched.opened()
    watched.states = [Output("csv:x", ("DISK_LOW",))]
    watched.health.look()
    watched.line.parts.put(Frame(0, "gone", None, "", time.monotonic_ns(), 0, Reason.CAMERA_LOST))
    watched.line.parts.settle_all(Reason.STOPPING, "")
    part = watched.line.parts.leave()
    assert part is not None
    assert part.result is not None
    assert part.result.reasons == (Reason.CAMERA_LOST, Reason.DISK_LOW)
