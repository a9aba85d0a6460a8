"""Parts, not frames: each trigger has exactly one record, whoever triggers and whatever happens to the pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from scripted import CollectingSink, ScriptedSource, frame, lost
from tiny import good_picture, spotted_picture
from waiting import until

from lad_edge.errors import SourceError
from lad_edge.inspector import Inspector, Options
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.parts import Parts
from lad_edge.stream.triggers import Interval, OnDemand
from lad_edge.stream.vote import Vote
from lad_edge.values import Frame, Reason, Result, Verdict

WAIT_S = 20.0


@pytest.fixture
def inspector(open_inspector: Callable[..., Inspector]) -> Inspector:
    return open_inspector(Options(maps_for=frozenset()))


def good(number: int) -> object:
    """A picture that the tiny engine finds good."""
    return good_picture(number % 2)


def spotted_thirds(number: int) -> object:
    """Two good pictures, then a bad one, again and again."""
    return spotted_picture(2) if number % 3 == 0 else good(number)


def flow(stop: threading.Event, picture: Callable[[int], object] = good) -> Iterator[Frame]:
    """A camera at some 500 pictures a second."""
    number = 0
    while not stop.is_set():
        time.sleep(0.002)
        number += 1
        yield frame(picture(number), f"c{number}")


class RunningLine:
    """A line in a thread of its own, whose trigger the test pulls."""

    def __init__(self, inspector: Inspector, options: LineOptions, picture: Callable[[int], object] = good):
        self.end, self.sink = threading.Event(), CollectingSink()
        self.line = Line(ScriptedSource(flow(self.end, picture), live=True), inspector, [self.sink], options)
        self.thread = threading.Thread(target=self.line.run)

    def __enter__(self) -> RunningLine:
        self.thread.start()
        assert self.line.capture.opened.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.end.set()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()

    def records(self, count: int) -> list[Result]:
        """That many records, waiting for them."""
        limit_s = time.monotonic() + WAIT_S
        while len(self.sink.results) < count and time.monotonic() < limit_s:
            time.sleep(0.002)
        return self.sink.results[:count]


class LateSink(CollectingSink):
    """late: results after their deadline; late_behind: the last record that was there at that moment."""

    def __init__(self, before: Callable[[Result], None] = lambda result: None) -> None:
        super().__init__(before)
        self.late: list[Result] = []
        self.late_behind: list[int] = []

    def write_late(self, result: Result) -> None:
        self.late.append(result)
        self.late_behind.append(self.seqs[-1])


@contextmanager
def in_background(run: Callable[[], object], end: threading.Event) -> Iterator[None]:
    """end: what makes it come to its end."""
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()


def on_demand(pictures: int = 1) -> Callable[[Parts], OnDemand]:
    return lambda parts: OnDemand(parts, pictures)


def test_each_demand_has_one_record_with_its_name_and_pictures_between_have_none(inspector: Inspector) -> None:
    with RunningLine(inspector, LineOptions(trigger=on_demand())) as running:
        for number in range(20):
            assert running.line.trigger.fire(f"tray-{number}") is not None
        results = running.records(20)
    assert [result.part_id for result in results] == [f"tray-{number}" for number in range(20)]
    assert [result.seq for result in running.sink.results] == list(range(1, 21))
    assert {result.verdict for result in results} == {Verdict.OK}
    assert running.line.stats.parts == running.line.parts.triggered == 20


def test_a_part_gets_pictures_that_were_captured_after_its_trigger(inspector: Inspector) -> None:
    with RunningLine(inspector, LineOptions(trigger=on_demand())) as running:
        part = running.line.trigger.fire()
        (result,) = running.records(1)
    assert part is not None
    assert result.captured_ns >= part.triggered_ns


def test_one_bad_picture_of_three_makes_the_part_ng(inspector: Inspector) -> None:
    options = LineOptions(trigger=on_demand(pictures=3), vote=Vote("any"))
    with RunningLine(inspector, options, spotted_thirds) as running:
        running.line.trigger.fire("a")
        running.line.trigger.fire("b")
        results = running.records(2)
    assert [result.verdict for result in results] == [Verdict.NG, Verdict.NG]
    assert all(seen.image is not None and seen.seq == seq for seq, seen in enumerate(running.sink.frames, 1))


def test_the_majority_of_three_pictures_overrules_one(inspector: Inspector) -> None:
    options = LineOptions(trigger=on_demand(pictures=3), vote=Vote("majority"))
    with RunningLine(inspector, options, spotted_thirds) as running:
        running.line.trigger.fire()
        assert [result.verdict for result in running.records(1)] == [Verdict.OK]


def test_a_camera_that_is_not_there_at_the_start_costs_unknown_parts_until_it_comes(inspector: Inspector) -> None:
    end, sink = threading.Event(), CollectingSink()
    source = ScriptedSource(flow(end), live=True)
    source.open_failures = ["scripted: no such camera"] * 3
    line = Line(source, inspector, [sink], LineOptions(trigger=on_demand(), patient=True))
    with in_background(line.run, end):
        until(lambda: line.trigger.lost)
        line.trigger.fire("early")
        until(lambda: len(sink.results) == 1)
        until(lambda: source.opened == 1)
        until(lambda: not line.trigger.lost)
        line.trigger.fire("late")
        until(lambda: len(sink.results) == 2)
    early, late = sink.results
    assert (early.part_id, early.verdict, early.reasons) == ("early", Verdict.UNKNOWN, (Reason.CAMERA_LOST,))
    assert "no such camera" in early.detail
    assert (late.part_id, late.verdict) == ("late", Verdict.OK)


def test_a_recorded_source_that_is_not_there_is_not_waited_for(inspector: Inspector) -> None:
    source = ScriptedSource([], live=False)
    source.open_failures = ["scripted: no such file"]
    with pytest.raises(SourceError, match="no such file"):
        Line(source, inspector, [CollectingSink()], LineOptions(patient=True)).run()


def test_the_first_part_after_the_camera_came_back_is_judged_though_it_had_nothing_to_say_yet(
    inspector: Inspector,
) -> None:
    """A camera that takes a picture when a part asks for one is silent until then."""
    end, sink = threading.Event(), CollectingSink()

    def when_asked() -> Frame | None:
        while not end.is_set():
            if source.triggered:
                return frame(good(1))
            time.sleep(0.002)
        return None

    source = ScriptedSource([lost(), when_asked], live=True)
    line = Line(source, inspector, [sink], LineOptions(trigger=on_demand(), stall_s=WAIT_S))
    with in_background(line.run, end):
        until(lambda: line.capture.reopened == 1 and not line.trigger.lost)
        line.trigger.fire()
        until(lambda: len(sink.results) == 1)
    assert [result.verdict for result in sink.results] == [Verdict.OK]


def test_a_trigger_while_the_camera_is_lost_is_unknown_at_once(inspector: Inspector) -> None:
    end, sink = threading.Event(), CollectingSink()
    source = ScriptedSource([lost()], live=True)
    line = Line(source, inspector, [sink], LineOptions(trigger=on_demand(), stall_s=WAIT_S, stop=end.is_set))
    with in_background(line.run, end):
        until(lambda: source.opened == 1)
        source.open_failures = ["scripted: the cable is still out"] * 10_000
        until(lambda: line.trigger.lost)
        line.trigger.fire("a")
        until(lambda: len(sink.results) == 1)
    assert [(result.part_id, result.reasons) for result in sink.results] == [("a", (Reason.CAMERA_LOST,))]


def test_a_part_without_its_pictures_is_unknown_when_the_time_is_up(inspector: Inspector) -> None:
    silent, sink = threading.Event(), CollectingSink()
    source = ScriptedSource([frame(good_picture(1)), lambda: silent.wait(WAIT_S) and None], live=True)
    line = Line(source, inspector, [sink], LineOptions(trigger=on_demand(pictures=2), deadline_ms=30))
    thread = threading.Thread(target=line.run)
    line.parts.trigger("early", 2)
    thread.start()
    limit_s = time.monotonic() + WAIT_S
    while not sink.results and time.monotonic() < limit_s:
        time.sleep(0.002)
    silent.set()
    thread.join(WAIT_S)
    (result,) = sink.results
    assert result.reasons == (Reason.DEADLINE,)
    assert "waiting for its picture" in result.detail


def test_the_clock_triggers_at_its_period_though_the_camera_is_faster(inspector: Inspector) -> None:
    options = LineOptions(trigger=lambda parts: Interval(parts, 0.02))
    with RunningLine(inspector, options) as running:
        results = running.records(5)
    gaps_ms = [(b.captured_ns - a.captured_ns) / 1e6 for a, b in pairwise(results)]
    assert sorted(gaps_ms)[len(gaps_ms) // 2] > 15


def test_a_hanging_engine_has_its_unknown_in_time_and_its_late_answer_is_never_written(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, judge, notices = threading.Event(), inspector.inspect, []

    def hang_at_the_second(picture: Frame) -> Result:
        if picture.frame_id == "p2":
            release.wait(WAIT_S)
        return judge(picture)

    def release_when_written(result: Result) -> None:
        if result.seq == 2:
            release.set()

    monkeypatch.setattr(inspector, "inspect", hang_at_the_second)
    sink = LateSink(before=release_when_written)  # only the deadline can write record 2: the engine waits for that
    steps = [frame(good_picture(i), f"p{i}") for i in range(1, 5)]
    source = ScriptedSource(steps, live=False)
    line = Line(source, inspector, [sink, CollectingSink()], LineOptions(deadline_ms=200, notice=notices.append))
    line.run()
    assert sink.seqs == line.sinks[1].seqs == [1, 2, 3, 4]  # type: ignore[attr-defined]
    assert [result.verdict for result in sink.results].count(Verdict.UNKNOWN) == 1
    assert sink.results[1].reasons == (Reason.DEADLINE,)
    assert "being inspected" in sink.results[1].detail
    assert any(text.startswith("part 2: ") and "too late" in text for text in notices)
    assert [(result.seq, result.verdict, result.reasons[-1]) for result in sink.late] == [
        (2, Verdict.OK, Reason.LATE_RESULT)
    ]
    assert sink.late_behind == [2]  # the record of the part was written first
    assert line.stats.late == {Verdict.OK: 1}


def test_parts_behind_a_hanging_engine_are_unknown_in_time_too(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, judge = threading.Event(), inspector.inspect

    def hang(picture: Frame) -> Result:
        release.wait(WAIT_S)
        return judge(picture)

    monkeypatch.setattr(inspector, "inspect", hang)
    with RunningLine(inspector, LineOptions(trigger=on_demand(), deadline_ms=50)) as running:
        for _ in range(5):
            running.line.trigger.fire()
        results = running.records(5)
        release.set()
    assert {result.reasons for result in results} == {(Reason.DEADLINE,)}
    assert running.sink.seqs == [1, 2, 3, 4, 5]


def test_another_engine_takes_over_between_two_parts(open_inspector: Callable[..., Inspector]) -> None:
    first, second = (open_inspector(Options(threshold=limit)) for limit in (1e6, -1e6))
    with RunningLine(first, LineOptions(trigger=on_demand())) as running:
        running.line.trigger.fire("by the first")
        running.records(1)
        running.line.swap(second)
        running.line.trigger.fire("by the second")
        results = running.records(2)
    assert [result.threshold for result in results] == [1e6, -1e6]


def test_a_camera_that_waits_is_let_take_each_picture_of_a_part(inspector: Inspector) -> None:
    """Its pictures come when they are asked for, and never else."""
    asked, end, sink = threading.Semaphore(0), threading.Event(), CollectingSink()

    def exposures() -> Iterator[Frame]:
        while asked.acquire() and not end.is_set():
            yield frame(good(0))

    source = ScriptedSource(exposures(), live=True)
    source.trigger = asked.release  # type: ignore[method-assign]
    line = Line(source, inspector, [sink], LineOptions(trigger=on_demand(pictures=3), stall_s=WAIT_S))
    thread = threading.Thread(target=line.run)
    thread.start()
    assert line.capture.opened.wait(WAIT_S)
    for name in ("a", "b"):
        line.trigger.fire(name)
    limit_s = time.monotonic() + WAIT_S
    while len(sink.results) < 2 and time.monotonic() < limit_s:
        time.sleep(0.002)
    end.set()
    asked.release()
    thread.join(WAIT_S)
    assert [result.part_id for result in sink.results] == ["a", "b"]
    assert line.parts.triggered == 2
