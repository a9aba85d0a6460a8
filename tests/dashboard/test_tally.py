"""What the page counts: shifts, latencies, the last scores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from page_samples import part

from lad_edge.dashboard.tally import Tally, entry_of, shift_begin
from lad_edge.values import Reason, Verdict

HOUR_S = 3600


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M"))


@pytest.mark.parametrize(
    ("now", "begin"),
    [
        ("2026-11-20 06:00", "2026-11-20 06:00"),
        ("2026-11-20 05:59", "2026-11-19 22:00"),
        ("2026-11-20 21:59", "2026-11-20 14:00"),
        ("2026-11-20 23:30", "2026-11-20 22:00"),
        ("2026-10-25 05:30", "2026-10-24 22:00"),  # the night that has an hour more
        ("2026-03-29 05:30", "2026-03-28 22:00"),  # the night that has one less
    ],
)
def test_shifts_begin_at_the_hours_of_the_wall_clock(now: str, begin: str) -> None:
    assert shift_begin(at(now), (6, 14, 22)) == at(begin)


def test_parts_count_for_the_shift_in_which_they_were_captured_and_three_shifts_are_kept() -> None:
    tally, start = Tally(), at("2026-11-20 06:30")
    for hours, verdict in ((0, Verdict.OK), (1, Verdict.NG), (8, Verdict.OK), (16, Verdict.OK), (24, Verdict.UNKNOWN)):
        tally.add(entry_of(replace(part(1, verdict)[1], utc_ns=int(1e9 * (start + hours * HOUR_S)))))
    shown = tally.as_dict()
    assert [(each["OK"], each["NG"], each["UNKNOWN"]) for each in shown["shifts"]] == [(0, 0, 1), (1, 0, 0), (1, 0, 0)]
    assert shown["shifts"][0]["begin_ms"] == 1000 * at("2026-11-21 06:00")
    assert shown["verdicts"] == {"OK": 3, "NG": 1, "UNKNOWN": 1}  # since the start: the oldest shift is in it


def test_latencies_are_counted_in_bars_that_hold_them() -> None:
    tally = Tally()
    for latency_ms in (4.0, 5.0, 60.0):
        tally.add(replace(entry_of(part(1)[1]), latency_ms=latency_ms))
    latency = tally.as_dict()["latency"]
    assert sum(latency["counts"]) == latency["count"] == 3
    assert latency["edges_ms"][0] < 4.0 < 60.0 < latency["edges_ms"][-1]
    assert min(latency["counts"][0], latency["counts"][-1]) > 0
    assert latency["max"] == 60.0


def test_a_late_part_has_a_latency_and_a_dropped_one_has_none() -> None:
    late = part(1, Verdict.UNKNOWN, score=None, reasons=(Reason.DEADLINE,))[1]
    assert entry_of(late).latency_ms >= 12.0
    assert entry_of(replace(late, reasons=(Reason.DROPPED,))).latency_ms is None


def test_its_memory_does_not_grow() -> None:
    tally = Tally()
    for seq in range(1000):
        tally.add(entry_of(part(seq)[1]))
        tally.see(seq, 128.0, 0.1)
    shown = tally.as_dict()
    assert len(shown["scores"]) == len(shown["views"]) == 240
    assert shown["scores"][-1][0] == 999
