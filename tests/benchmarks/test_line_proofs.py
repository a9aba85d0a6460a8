"""The proofs of a whole line, each in its small form: they pass on real parts, and they can fail."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from broker import needs_broker
from gige_camera import gige_camera
from rtsp_server import rtsp_server

from benchmarks.line import Block, compare_counts
from benchmarks.line_memory import Usage
from benchmarks.line_witnesses import Tally
from benchmarks.outages import of_broker, of_camera
from benchmarks.overhead import one_round


@pytest.fixture
def any_size(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle(geometry=(None, None))


@needs_broker
@pytest.mark.slow
def test_with_everything_on_all_count_what_the_plc_counts(any_size: Path, tmp_path: Path) -> None:
    with gige_camera():
        found = Block(["--engine", any_size], 80, tmp_path).full()
    assert {counts.get("records", 80) for counts in found["counts"].values()} == {80}
    assert set(found["trigger_to_result_ms"]) == {"p50", "p95", "p99", "max"}


@pytest.mark.slow
def test_a_gige_camera_that_is_killed_and_frozen(tiny_bundle: Path) -> None:
    with gige_camera() as camera:
        of_camera(camera, f"{camera.uri}?fps=40&size=64x48", tiny_bundle, 1, random.Random(0))


@pytest.mark.slow
def test_an_rtsp_camera_that_is_killed_and_frozen(any_size: Path) -> None:
    with rtsp_server() as camera:
        of_camera(camera, camera.url, any_size, 1, random.Random(0))


@needs_broker
@pytest.mark.slow
def test_a_broker_that_is_frozen_killed_and_wiped(tiny_bundle: Path, tmp_path: Path) -> None:
    found = of_broker(tmp_path, tiny_bundle, 1, random.Random(0))
    assert found["keys"] == found["records"] <= found["messages"]


def test_the_way_from_the_ring_to_the_disk(tmp_path: Path) -> None:
    found = one_round(tmp_path / "round", 0.002, 100)
    assert len(found.disk_us) == len(found.sinks_us) >= 100
    assert max(found.disk_us) >= min(found.sinks_us) > 0.0


def test_a_record_that_is_lost_or_comes_twice_or_too_early_is_found() -> None:
    assert Tally("x", [(1, "OK"), (3, "NG"), (2, "OK"), (2, "OK")]).judge(4) == {
        "records": 4,
        "OK": 3,
        "NG": 1,
        "UNKNOWN": 0,
        "lost": 1,
        "duplicated": 1,
        "out_of_order": 1,
    }


@pytest.mark.parametrize("counts", [{"OK": 2, "NG": 0}, {"OK": 1, "NG": 1, "lost": 1}])
def test_counts_that_differ_end_the_proof(counts: dict[str, int]) -> None:
    compare_counts({"OK": 1, "NG": 1}, {"same": {"OK": 1, "NG": 1, "lost": 0}})
    with pytest.raises(AssertionError):
        compare_counts({"OK": 1, "NG": 1}, {"other": counts})


def test_a_leak_has_its_slope() -> None:
    seconds = [float(second) for second in range(100)]
    usage = Usage(seconds, [1_000_000 + 6400 * second for second in range(100)], [5] * 100, [9] * 100)
    figures = usage.figures(units_per_s=100.0)
    assert figures["slope_bytes_per_unit"] == [64.0, 64.0, 64.0]
    assert (figures["threads"], figures["files"]) == ([5, 5], [9, 9])
