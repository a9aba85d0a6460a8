"""The mailbox: the newest frame wins or the source waits; every captured frame comes out exactly once, in order."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import frame, lost

from lad_edge.stream.mailbox import Mailbox
from lad_edge.values import Reason

WAIT_S = 10.0


def test_the_newest_frame_wins_and_the_losers_come_out_as_dropped() -> None:
    mailbox = Mailbox(1, wait_when_full=False)
    for _ in range(4):
        assert mailbox.put(frame(object()))
    taken = mailbox.take(WAIT_S)
    assert [(f.seq, f.fault, f.image is None) for f in taken] == [
        (1, Reason.DROPPED, True),
        (2, Reason.DROPPED, True),
        (3, Reason.DROPPED, True),
        (4, None, False),
    ]
    assert mailbox.dropped == 3


def test_a_lost_camera_stays_a_lost_camera_when_it_is_dropped() -> None:
    mailbox = Mailbox(1, wait_when_full=False)
    mailbox.put(lost())
    mailbox.put(frame(object()))
    assert [f.fault for f in mailbox.take(WAIT_S)] == [Reason.CAMERA_LOST, None]


def test_a_full_queue_that_waits_holds_the_source_back() -> None:
    mailbox, put = Mailbox(2, wait_when_full=True), threading.Semaphore(0)

    def produce() -> None:
        for _ in range(5):
            mailbox.put(frame(object()))
            put.release()

    producer = threading.Thread(target=produce)
    producer.start()
    assert put.acquire(timeout=WAIT_S)
    assert put.acquire(timeout=WAIT_S)
    assert not put.acquire(timeout=0.05)  # the third put waits
    assert [f.seq for _ in range(5) for f in mailbox.take(WAIT_S)] == [1, 2, 3, 4, 5]
    producer.join(WAIT_S)
    assert mailbox.dropped == 0


def test_closing_frees_a_waiting_source_and_keeps_what_is_inside() -> None:
    mailbox, answers = Mailbox(1, wait_when_full=True), []
    mailbox.put(frame(object()))
    producer = threading.Thread(target=lambda: answers.append(mailbox.put(frame(object()))))
    producer.start()
    mailbox.close()
    producer.join(WAIT_S)
    assert answers == [False]
    assert not mailbox.finished
    assert [f.seq for f in mailbox.take(WAIT_S)] == [1]
    assert mailbox.finished
    assert mailbox.take(WAIT_S) == []


def test_an_empty_mailbox_answers_in_time_with_nothing() -> None:
    assert Mailbox(1, wait_when_full=False).take(0.001) == []


def test_a_loop_that_hangs_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lad_edge.stream.mailbox._MOST_LOSERS", 5)
    mailbox, answers = Mailbox(1, wait_when_full=False), []
    producer = threading.Thread(target=lambda: answers.extend(mailbox.put(frame(object())) for _ in range(20)))
    producer.start()
    taken: list[int] = []
    while len(taken) < 20:
        some = mailbox.take(WAIT_S)
        assert len(some) <= 6
        taken += [f.seq for f in some]
    producer.join(WAIT_S)
    assert taken == list(range(1, 21))
    assert answers == [True] * 20


def test_numbering_goes_on_where_it_is_told_to() -> None:
    mailbox = Mailbox(1, wait_when_full=False, first_seq=41)
    mailbox.put(frame(object()))
    assert mailbox.take(WAIT_S)[0].seq == 41


@given(st.integers(1, 5), st.lists(st.sampled_from(["put", "take"]), max_size=60))
def test_no_interleaving_loses_or_repeats_a_frame(capacity: int, steps: list[str]) -> None:
    mailbox, put, taken = Mailbox(capacity, wait_when_full=False), 0, []
    for step in steps:
        if step == "put":
            put += mailbox.put(frame(object()))
        else:
            taken += mailbox.take(0.0)
    mailbox.close()
    taken += mailbox.take_all()
    assert [f.seq for f in taken] == list(range(1, put + 1))
    assert sum(f.fault is Reason.DROPPED for f in taken) == mailbox.dropped
