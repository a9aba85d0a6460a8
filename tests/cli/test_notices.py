"""Notices are told, and a storm of them is counted instead."""

from __future__ import annotations

import threading
import time

import pytest

from lad_edge.cli import notices
from lad_edge.cli.notices import MOST, PERIOD_S, Aside, Notices


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [100.0]
    monkeypatch.setattr(notices.time, "monotonic", lambda: now_s[0])
    return now_s


def test_the_same_with_other_numbers_is_told_a_few_times_and_counted_then(clock: list[float]) -> None:
    told: list[str] = []
    notice = Notices(told.append)
    for part in range(1000):
        notice(f"part {part} came after {part}.5 ms")
    notice("the camera is gone")
    assert len(told) == MOST + 1
    assert told[-1] == "the camera is gone"
    clock[0] += PERIOD_S
    notice("part 1000 came after 7 ms")
    notice("part 1001 came after 7 ms")
    assert told[-2:] == [f"part 1000 came after 7 ms (and {1000 - MOST} more like it)", "part 1001 came after 7 ms"]


def test_ten_minutes_of_an_error_with_every_part_stay_small(clock: list[float]) -> None:
    told: list[str] = []
    notice = Notices(told.append)
    for part in range(12_000):
        clock[0] += 0.05
        notice(f"part {part}: the disk is full, free some of its 1024 MB")
    assert sum(map(len, told)) < 20_000


def test_kinds_are_forgotten_before_they_fill_the_memory(clock: list[float]) -> None:
    notice = Notices(lambda _text: None)
    for kind in range(5000):
        notice("x" * (kind + 1))
    assert len(notice._kinds) <= 256


def test_a_terminal_that_takes_nothing_holds_up_nobody() -> None:
    release, told = threading.Event(), []

    def stall(text: str) -> None:
        release.wait(20.0)
        told.append(text)

    with Aside(stall) as tell:
        for number in range(5000):  # more than may wait
            tell(str(number))
        assert told == []
        release.set()
        limit_s = time.monotonic() + 20.0
        while len(told) < 1000:
            assert time.monotonic() < limit_s
            time.sleep(0.01)
    assert told[:1000] == [str(number) for number in range(1000)]


def test_what_is_to_be_told_at_the_end_is_told() -> None:
    told: list[str] = []
    with Aside(told.append) as tell:
        tell("the table")
    assert told == ["the table"]
