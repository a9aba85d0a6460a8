"""Open parts: numbered when they are triggered, settled once, gone in order."""

from __future__ import annotations

import random
import threading
import time

import pytest
from scripted import frame, lost

from lad_edge.stream.parts import Part, Parts, due_ns
from lad_edge.values import Reason, Result, Verdict

WAIT_S = 20.0


def unjudged(part: Part, reason: Reason, detail: str) -> Result:
    return Result(part.seq, "", Verdict.UNKNOWN, (reason,), 0, 0, detail=detail, part_id=part.part_id)


def ok(part: Part) -> Result:
    return Result(part.seq, "", Verdict.OK, (Reason.SCORE_WITHIN_LIMIT,), 0, 0)


def parts(capacity: int = 1, *, wait_when_full: bool = False) -> Parts:
    return Parts(capacity, unjudged, wait_when_full=wait_when_full)


def leave_all(opened: Parts) -> list[Part]:
    return list(iter(opened.leave, None))


def test_the_newest_wins_and_the_others_leave_as_dropped_in_order() -> None:
    opened = parts()
    for _ in range(3):
        opened.put(frame(None))
    assert [(part.seq, part.result.reasons) for part in leave_all(opened) if part.result] == [
        (1, (Reason.DROPPED,)),
        (2, (Reason.DROPPED,)),
    ]
    newest = opened.take(0)
    assert newest is not None
    assert newest.seq == 3
    assert opened.dropped == 2


def test_a_part_that_is_settled_early_waits_for_those_before_it() -> None:
    opened = parts(capacity=2)
    opened.put(frame(None))
    opened.put(frame(None))
    first, second = opened.take(0), opened.take(0)
    assert first is not None
    assert second is not None
    opened.settle(second, ok(second))
    assert opened.leave() is None
    opened.settle(first, ok(first))
    assert [part.seq for part in leave_all(opened)] == [1, 2]


def test_the_first_result_stays() -> None:
    opened = parts()
    opened.put(frame(None))
    part = opened.take(0)
    assert part is not None
    opened.settle_all(Reason.STOPPING, "")
    assert not opened.settle(part, ok(part))
    assert [left.result.reasons for left in leave_all(opened) if left.result] == [(Reason.STOPPING,)]


def test_a_picture_from_before_the_trigger_is_not_taken() -> None:
    opened, early = parts(), frame(None)
    opened.trigger("a")
    assert not opened.add(early)
    assert opened.add(frame(None))


def test_pictures_go_to_the_oldest_part_that_lacks_one() -> None:
    opened = parts(capacity=2)
    opened.trigger("a", pictures=2)
    opened.trigger("b")
    shots = [frame(None, f"p{i}") for i in range(4)]
    assert [opened.add(shot) for shot in shots] == [True, True, True, False]
    first, second = opened.take(0), opened.take(0)
    assert first is not None
    assert second is not None
    assert ([shot.frame_id for shot in first.frames], [shot.frame_id for shot in second.frames]) == (
        ["p0", "p1"],
        ["p2"],
    )


def test_a_fault_completes_a_part() -> None:
    opened = parts()
    opened.trigger("a", pictures=3)
    opened.add(lost())
    part = opened.take(0)
    assert part is not None
    assert part.frames[-1].fault is Reason.CAMERA_LOST


def test_what_is_due_is_unknown_and_the_next_due_time_is_told() -> None:
    opened = parts(capacity=2)
    opened.put(frame(None))
    time.sleep(0.02)
    opened.put(frame(None))
    pause_s = opened.expire(10_000_000, None)
    assert 0 < pause_s <= 0.010
    assert [part.seq for part in leave_all(opened)] == [1]


@pytest.mark.parametrize(("deadline_ms", "settled_ms"), [(150, 149), (10, 9), (5, 4.5)])
def test_a_part_is_settled_so_early_that_the_verdict_arrives_by_its_deadline(
    deadline_ms: float, settled_ms: float
) -> None:
    assert due_ns(7, round(1e6 * deadline_ms)) == 7 + round(1e6 * settled_ms)


@pytest.mark.parametrize("meanwhile", [0.0, 0.05])
def test_a_part_that_is_due_before_the_next_look_at_the_deadlines_brings_it_forward(meanwhile: float) -> None:
    """Also when it comes before the rest begins, and when somebody else looks in between."""
    opened = parts(capacity=2)
    opened.expire(10_000_000, None)
    resting = threading.Thread(target=opened.wait_for_change, args=(WAIT_S,))
    coming = threading.Timer(meanwhile, lambda: [opened.put(frame(None)), opened.expire(10_000_000, None)])
    coming.start()
    if not meanwhile:
        coming.join()
    resting.start()
    resting.join(WAIT_S / 2)
    assert not resting.is_alive()


def test_a_part_that_is_due_after_the_next_look_wakes_nobody() -> None:
    opened = parts(capacity=2)
    opened.expire(10_000_000_000, None)
    resting = threading.Thread(target=opened.wait_for_change, args=(0.3,))
    start_s = time.monotonic()
    resting.start()
    time.sleep(0.05)
    opened.put(frame(None))
    resting.join(WAIT_S)
    assert time.monotonic() - start_s >= 0.3


def test_a_part_that_is_dropped_is_written_by_who_watches_the_deadlines() -> None:
    opened = parts(capacity=1)
    opened.expire(None, None)
    opened.put(frame(None))
    opened.put(frame(None))
    start_s = time.monotonic()
    opened.wait_for_change(WAIT_S)
    assert time.monotonic() - start_s < WAIT_S / 2


def test_a_part_without_pictures_is_missing_its_frames() -> None:
    opened = parts()
    opened.trigger("a", pictures=2)
    opened.add(frame(None))
    opened.expire(None, 0)
    (part,) = leave_all(opened)
    assert part.result is not None
    assert part.result.reasons == (Reason.FRAME_MISSING,)
    assert "1 of 2 pictures" in part.result.detail


def test_a_held_back_source_goes_on_when_a_part_is_taken() -> None:
    opened, second_is_in = parts(wait_when_full=True), threading.Event()
    opened.put(frame(None))

    def put_another() -> None:
        opened.put(frame(None))
        second_is_in.set()

    threading.Thread(target=put_another, daemon=True).start()
    assert not second_is_in.wait(0.05)
    opened.take(0)
    assert second_is_in.wait(WAIT_S)


def test_a_closed_line_takes_no_part_over_and_wakes_who_waits() -> None:
    opened, answers = parts(wait_when_full=True), []
    opened.put(frame(None))
    waiting = threading.Thread(target=lambda: answers.append(opened.put(frame(None))), daemon=True)
    waiting.start()
    opened.close()
    waiting.join(WAIT_S)
    assert answers == [False]
    assert opened.trigger() is None
    assert opened.triggered == 1


def test_a_loop_that_hangs_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lad_edge.stream.parts._MOST_OPEN", 5)
    opened, answers = parts(), []
    producer = threading.Thread(target=lambda: answers.extend(opened.put(frame(None)) for _ in range(8)), daemon=True)
    producer.start()
    limit_s = time.monotonic() + WAIT_S
    while opened.open < 5 and time.monotonic() < limit_s:
        time.sleep(0.002)
    time.sleep(0.05)
    assert opened.open == opened.triggered == 5  # the sixth waits in the driver
    opened.close()
    producer.join(WAIT_S)
    assert answers == [True] * 5 + [False] * 3


def test_numbering_goes_on_where_it_is_told_to() -> None:
    opened = Parts(1, unjudged, wait_when_full=False, first_seq=41)
    opened.put(frame(None))
    part = opened.take(0)
    assert part is not None
    assert part.seq == 41


def test_triggers_are_parts_that_left_whatever_threads_do_to_them() -> None:
    """Three cameras trigger, two inspectors judge, a deadline expires, and a writer takes: nothing is lost, doubled or out of order."""
    opened, written, judged = parts(capacity=3), [], threading.Event()

    def trigger(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(400):
            opened.put(frame(None)) if dice.random() < 0.7 else opened.trigger("named")
            if dice.random() < 0.3:
                opened.add(frame(None))

    def judge() -> None:
        while not judged.is_set():
            part = opened.take(0.001)
            if part is not None:
                opened.settle(part, ok(part))

    def write() -> None:
        while not judged.is_set() or opened.open:
            opened.expire(2_000_000, 1_000_000)
            written.extend(leave_all(opened))

    cameras = [threading.Thread(target=trigger, args=(seed,)) for seed in range(3)]
    others = [threading.Thread(target=job) for job in (judge, judge, write)]
    for thread in (*cameras, *others):
        thread.start()
    for thread in cameras:
        thread.join(WAIT_S)
    judged.set()
    for thread in others:
        thread.join(WAIT_S)
    assert [part.seq for part in written] == list(range(1, 1201))
    assert opened.triggered == 1200
    assert {part.result.verdict for part in written if part.result} == {Verdict.OK, Verdict.UNKNOWN}
