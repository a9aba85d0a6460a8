"""A picture that was held back on its way is as old as it is."""

from __future__ import annotations

from lad_edge.sources.worker.stream_clock import StreamClock

MS = 1_000_000
PERIOD = 40 * MS


def ages(arrivals_ms: list[float], stamps_ms: list[float] | None = None) -> list[float]:
    clock = StreamClock()
    stamps_ms = stamps_ms or [40.0 * number for number in range(len(arrivals_ms))]
    return [
        clock.age_ns(round(stamp * MS), round(arrived * MS)) / MS
        for stamp, arrived in zip(stamps_ms, arrivals_ms, strict=True)
    ]


def test_the_picture_that_a_decoder_gives_away_when_the_stream_falls_silent_is_old() -> None:
    assert ages([1000, 1040, 1080, 1420]) == [0, 0, 0, 300]


def test_pictures_that_were_queued_on_the_way_are_old_until_the_queue_is_empty() -> None:
    assert ages([1000, 1300, 1301, 1302, 1160]) == [0, 260, 221, 182, 0]


def test_the_first_pictures_of_a_connection_come_at_once_and_are_no_measure_for_those_that_follow() -> None:
    assert ages([1120, 1121, 1122, 1123, 1160, 1205]) == [0, 0, 0, 0, 0, 5]


def test_clocks_that_part_slowly_make_no_picture_old() -> None:
    drift = 1 + 200e-6
    found = ages([1000 + 40 * number * drift for number in range(50_000)])  # more than half an hour
    assert max(found) < 2.1


def test_stamps_that_begin_anew_or_stand_still_say_nothing() -> None:
    assert ages([1000, 1040, 1080, 1120], [7000, 7040, 0, 40]) == [0, 0, 0, 0]
    assert ages([1000, 1100, 1500], [0, 0, 0]) == [0, 0, 0]
