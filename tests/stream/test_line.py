"""The line: exactly one record per captured frame (V1), whatever the source, the sinks and the stop do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest
from scripted import CollectingSink, ScriptedSource, fail_at, frame, lost
from tiny import good_picture, spotted_picture

from lad_edge.errors import EngineError, SinkError, SourceError
from lad_edge.inspector import Inspector, Options
from lad_edge.stream.capture import Pace
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.values import Frame, Reason, Result, Verdict

WAIT_S = 20.0
IN_TIME = (Reason.SCORE_WITHIN_LIMIT, Reason.SINK_BEHIND)


@pytest.fixture
def inspector(open_inspector: Callable[..., Inspector]) -> Inspector:
    return open_inspector(Options(maps_for=frozenset()))


def pictures(n: int) -> list[object]:
    return [frame(spotted_picture(i) if i % 3 == 2 else good_picture(i), f"p{i}") for i in range(n)]


def test_a_recorded_source_is_judged_frame_by_frame_in_order(inspector: Inspector) -> None:
    sink = CollectingSink()
    line = Line(ScriptedSource(pictures(9), live=False), inspector, [sink])
    line.run()
    assert sink.seqs == list(range(1, 10))
    assert [r.verdict for r in sink.results] == [Verdict.OK, Verdict.OK, Verdict.NG] * 3
    assert line.parts.dropped == 0


def test_a_live_source_that_is_too_fast_loses_frames_but_no_record(inspector: Inspector) -> None:
    source = ScriptedSource(pictures(30), live=True)
    sink = CollectingSink(before=lambda _: source.exhausted.wait(WAIT_S))  # the first record waits for all frames
    line = Line(source, inspector, [sink])
    line.run()
    assert sink.seqs == list(range(1, 31))
    dropped = [r for r in sink.results if r.reasons == (Reason.DROPPED,)]
    assert len(dropped) == line.parts.dropped >= 27
    assert {r.verdict for r in dropped} == {Verdict.UNKNOWN}
    assert line.stats.reasons["DROPPED"] == len(dropped)


def test_a_live_source_with_queue_all_keeps_every_frame(inspector: Inspector) -> None:
    source = ScriptedSource(pictures(30), live=True)
    sink = CollectingSink(before=lambda _: source.exhausted.wait(WAIT_S))
    line = Line(source, inspector, [sink], LineOptions(queue="all"))
    line.run()
    assert line.parts.dropped == 0
    assert all(r.score is not None for r in sink.results)


def test_a_recorded_source_with_queue_latest_drops_like_a_live_one(inspector: Inspector) -> None:
    source = ScriptedSource(pictures(10), live=False)
    sink = CollectingSink(before=lambda _: source.exhausted.wait(WAIT_S))
    line = Line(source, inspector, [sink], LineOptions(queue="latest"))
    line.run()
    assert sink.seqs == list(range(1, 11))
    assert line.parts.dropped > 0


def test_the_engine_is_kept_warm_while_no_frame_comes_and_nothing_is_recorded(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed = threading.Semaphore(0)
    score_a_golden_frame = inspector.keep_warm

    def keep_warm() -> None:
        score_a_golden_frame()
        warmed.release()

    def after_some_warmth() -> Frame:
        assert all(warmed.acquire(timeout=WAIT_S) for _ in range(3))
        return frame(spotted_picture(2), "late")

    monkeypatch.setattr(inspector, "keep_warm", keep_warm)
    sink = CollectingSink()
    source = ScriptedSource([frame(good_picture(0), "early"), after_some_warmth], live=True)
    Line(source, inspector, [sink], LineOptions(keep_warm_s=0.001, stall_s=WAIT_S)).run()
    assert [(r.seq, r.verdict) for r in sink.results] == [(1, Verdict.OK), (2, Verdict.NG)]


def test_a_fault_while_the_engine_is_kept_warm_is_no_fault_of_the_line(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise EngineError("scripted: the GPU fell off the bus")

    def after_the_fault() -> Frame:
        assert failed.wait(WAIT_S)
        return frame(good_picture(0))

    monkeypatch.setattr(inspector, "keep_warm", fail)
    sink = CollectingSink()
    Line(ScriptedSource([after_the_fault], live=True), inspector, [sink], LineOptions(keep_warm_s=0.001)).run()
    assert [r.verdict for r in sink.results] == [Verdict.OK]


def test_a_stop_ends_an_endless_source_and_every_captured_frame_has_its_record(inspector: Inspector) -> None:
    source = ScriptedSource((frame(good_picture(i)) for i in count()), live=False)
    sink = CollectingSink()
    line = Line(source, inspector, [sink], LineOptions(stop=lambda: len(sink.results) >= 5))
    line.run()
    assert sink.seqs == list(range(1, len(sink.seqs) + 1))
    assert {r.reasons for r in sink.results[5:]} <= {(Reason.STOPPING,)}
    assert line.parts.put(frame(None)) is False
    assert not line.capture.is_alive()


def test_a_stop_while_the_source_opens_ends_the_line(inspector: Inspector) -> None:
    release, source = threading.Event(), ScriptedSource([], live=True)
    source.open = lambda: release.wait(WAIT_S)  # type: ignore[method-assign, assignment]
    line = Line(source, inspector, [], LineOptions(stop=lambda: True))
    line.run()
    assert line.capture.is_alive()  # stuck in its driver, and left behind
    release.set()
    line.capture.join(WAIT_S)


def test_a_stop_while_a_read_blocks_ends_the_line(inspector: Inspector) -> None:
    release = threading.Event()

    def stuck() -> None:
        release.wait(WAIT_S)

    sink = CollectingSink()
    source = ScriptedSource([frame(good_picture(1)), stuck], live=True)
    Line(source, inspector, [sink], LineOptions(stop=lambda: bool(sink.results))).run()
    release.set()
    assert sink.results[0].verdict is Verdict.OK


def test_a_source_that_does_not_open_is_an_error(inspector: Inspector) -> None:
    source = ScriptedSource([], live=True)
    source.open_failures = ["scripted: no camera"]
    with pytest.raises(SourceError, match="no camera"):
        Line(source, inspector, []).run()


def test_a_source_that_breaks_down_is_an_error_after_its_frames_are_judged(inspector: Inspector) -> None:
    def broken() -> None:
        raise RuntimeError("the driver fell over")

    sink = CollectingSink()
    with pytest.raises(SourceError, match="the driver fell over"):
        Line(ScriptedSource([*pictures(2), broken], live=False), inspector, [sink]).run()
    assert sink.seqs == [1, 2]


def test_a_lost_camera_is_one_unknown_and_is_opened_again(inspector: Inspector) -> None:
    source = ScriptedSource([frame(good_picture(1)), lost(), frame(good_picture(2))], live=True)
    source.name = "camera0"
    heard, sink = [], CollectingSink()

    def fail_twice(text: str) -> None:
        heard.append(text)
        if len(heard) == 1:
            source.open_failures = ["busy", "busy"]

    Line(source, inspector, [sink], LineOptions(queue="all", notice=fail_twice)).run()
    assert [r.reasons[0] for r in sink.results] == [
        Reason.SCORE_WITHIN_LIMIT,
        Reason.CAMERA_LOST,
        Reason.SCORE_WITHIN_LIMIT,
    ]
    assert source.opened == 2
    assert "opening it again" in heard[0]
    assert heard[1] == "camera0 is open again"


def test_a_silent_camera_is_reported_once_although_its_driver_says_nothing(inspector: Inspector) -> None:
    release, sink = threading.Event(), CollectingSink()

    def silent() -> object:
        release.wait(WAIT_S)
        return frame(good_picture(2))

    def see(result: object) -> None:
        if result.reasons == (Reason.CAMERA_LOST,):  # type: ignore[attr-defined]
            release.set()

    sink.before = see
    source = ScriptedSource([frame(good_picture(1)), silent], live=True)  # type: ignore[list-item]
    Line(source, inspector, [sink], LineOptions(stall_s=0.1)).run()
    assert [r.reasons[0] for r in sink.results] == [
        Reason.SCORE_WITHIN_LIMIT,
        Reason.CAMERA_LOST,
        Reason.SCORE_WITHIN_LIMIT,
    ]


def test_a_sink_that_fails_ends_the_line_and_the_others_get_everything(inspector: Inspector) -> None:
    failing, healthy = CollectingSink(fail_at(4)), CollectingSink()
    with pytest.raises(SinkError, match="record 4"):
        Line(ScriptedSource(pictures(20), live=False), inspector, [failing, healthy]).run()
    assert failing.seqs == [1, 2, 3]
    assert healthy.seqs == list(range(1, len(healthy.seqs) + 1))
    assert {r.reasons for r in healthy.results[4:]} <= {(Reason.STOPPING,)}


def test_a_sink_with_a_fault_in_its_code_costs_the_others_no_record(inspector: Inspector) -> None:
    def fall_over(result: Result) -> None:
        if result.seq == 2:
            raise KeyError("scripted: a fault in the code of a sink")

    broken, healthy = CollectingSink(fall_over), CollectingSink()
    with pytest.raises(SinkError, match="CollectingSink broke down: KeyError"):
        Line(ScriptedSource(pictures(9), live=False), inspector, [broken, healthy]).run()
    assert healthy.seqs == list(range(1, len(healthy.seqs) + 1))
    assert healthy.results[1].verdict is Verdict.OK


def test_a_sink_with_a_fault_does_not_end_the_watch_over_deadlines(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that keeps the deadlines writes too: it must go on to the part behind the fault."""
    release, healthy = threading.Event(), CollectingSink()
    inspect = inspector.inspect

    def hang(one: Frame) -> Result:
        release.wait(WAIT_S)
        return inspect(one)

    def fall_over(_result: Result) -> None:
        raise RuntimeError("scripted: a fault in the code of a sink")

    def release_at_the_last(result: Result) -> None:
        if result.seq == 3:
            release.set()

    monkeypatch.setattr(inspector, "inspect", hang)
    healthy.before = release_at_the_last
    line = Line(
        ScriptedSource(pictures(3), live=True),
        inspector,
        [CollectingSink(fall_over), healthy],
        LineOptions(queue="all", deadline_ms=30.0),
    )
    with pytest.raises(SinkError, match="RuntimeError"):
        line.run()
    assert [r.reasons for r in healthy.results] == [(Reason.DEADLINE,)] * 3


@pytest.mark.parametrize(("held_up_s", "verdict"), [(0.0, Verdict.OK), (0.12, Verdict.UNKNOWN)])
def test_an_ok_that_was_held_up_beyond_its_deadline_is_not_put_out(
    inspector: Inspector, held_up_s: float, verdict: Verdict
) -> None:
    sink = CollectingSink()
    line = Line(ScriptedSource([], live=True), inspector, [sink], LineOptions(deadline_ms=100.0))
    line.parts.put(frame(good_picture(1)))
    part = line.parts.take(0.0)
    assert part is not None
    assert line.parts.settle(part, replace(inspector.inspect(part.frame()), reasons=IN_TIME))
    time.sleep(held_up_s)  # a sink that is slow with the part before
    assert line.abandon()
    assert sink.results[0].verdict is verdict
    if verdict is Verdict.UNKNOWN:
        assert sink.results[0].reasons == (Reason.DEADLINE, Reason.SINK_BEHIND)


def test_last_words_name_every_frame_in_flight_once(inspector: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, release, sink = threading.Event(), threading.Event(), CollectingSink()
    inspect = inspector.inspect

    def hang(one: object) -> object:
        entered.set()
        release.wait(WAIT_S)
        return inspect(one)  # type: ignore[arg-type]

    monkeypatch.setattr(inspector, "inspect", hang)
    source = ScriptedSource(pictures(3), live=True)
    line = Line(source, inspector, [sink], LineOptions(queue="all"))
    runner = threading.Thread(target=line.run, daemon=True)
    runner.start()
    assert entered.wait(WAIT_S)
    assert source.exhausted.wait(WAIT_S)
    assert line.abandon()
    assert sink.seqs == [1, 2, 3]
    assert {r.reasons for r in sink.results} == {(Reason.STOPPING,)}
    release.set()  # the main thread wakes up late: its record must not come after the last words
    runner.join(0.2)
    assert sink.seqs == [1, 2, 3]


def test_max_frames_counts_captured_frames(inspector: Inspector) -> None:
    sink = CollectingSink()
    Line(ScriptedSource(pictures(9), live=False), inspector, [sink], LineOptions(pace=Pace(max_frames=4))).run()
    assert sink.seqs == [1, 2, 3, 4]


def test_a_played_file_keeps_its_pace(inspector: Inspector) -> None:
    sink = CollectingSink()
    Line(ScriptedSource(pictures(4), live=False), inspector, [sink], LineOptions(pace=Pace(fps=50))).run()
    stamps = [r.captured_ns for r in sink.results]
    assert sink.seqs == [1, 2, 3, 4]
    assert stamps == sorted(stamps)


def test_a_recorded_frame_is_not_old_because_it_was_read_ahead(inspector: Inspector) -> None:
    """Its time counts from when it is taken: it has waited in a file, not on a line."""
    source, written_ns = ScriptedSource(pictures(4), live=False), []
    sink = CollectingSink(before=lambda _: (source.exhausted.wait(WAIT_S), written_ns.append(time.monotonic_ns())))  # type: ignore[arg-type, return-value, func-returns-value]
    Line(source, inspector, [sink]).run()
    assert all(result.captured_ns > before for result, before in zip(sink.results[1:], written_ns, strict=False))


def test_a_live_frame_that_waited_too_long_is_late(open_inspector: Callable[..., Inspector]) -> None:
    def steps() -> Iterator[object]:
        yield frame(good_picture(1))
        yield frame(good_picture(2))

    source = ScriptedSource(steps(), live=True)  # type: ignore[arg-type]
    inspector = open_inspector(Options(deadline_ms=100.0))
    slow = threading.Event()
    sink = CollectingSink(before=lambda _: (source.exhausted.wait(WAIT_S), slow.wait(0.15)))  # type: ignore[arg-type, return-value]
    Line(source, inspector, [sink], LineOptions(queue="all")).run()
    assert sink.results[1].reasons == (Reason.DEADLINE,)
