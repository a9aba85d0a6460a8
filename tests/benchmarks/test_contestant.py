"""A contestant's process says when it judged first, and answers with the times of a round."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

import lad_edge
from benchmarks.contestant import Contestant, Start, memory_mb
from benchmarks.start import first_record_s


@pytest.fixture
def frames_file(tmp_path: Path) -> Path:
    file = tmp_path / "frames.npy"
    np.save(file, np.stack([tiny.good_picture(seed) for seed in range(3)]))
    return file


def start_of(engine: Path, frames: Path, folder: Path) -> Start:
    return Start("benchmarks.edge_worker", ["ours", str(engine), str(frames), "f32", "1"], folder)


def test_the_first_verdict_of_the_process_is_the_one_of_this_process(
    tiny_bundle: Path, frames_file: Path, tmp_path: Path
) -> None:
    with lad_edge.load(tiny_bundle, precision="f32", threads=1) as inspector:
        expected = inspector(np.load(frames_file)[0]).score
    with Contestant(start_of(tiny_bundle, frames_file, tmp_path)) as contestant:
        assert contestant.first["score"] == expected
        assert contestant.first["precision"] == "f32"
        assert contestant.cold_start_s > 0


def test_a_round_lasts_as_long_as_asked(tiny_bundle: Path, frames_file: Path, tmp_path: Path) -> None:
    with Contestant(start_of(tiny_bundle, frames_file, tmp_path)) as contestant:
        short, long = contestant.round(0.0), contestant.round(0.2)
    assert len(short["times_us"]) == 1  # one call at least
    assert sum(long["times_us"][:-1]) <= 0.2e6 <= sum(long["times_us"]) * 1.5  # loops cost next to nothing
    assert 0 < long["resident_mb"] <= long["peak_mb"]
    assert contestant.process.returncode == 0


def test_a_child_that_fails_is_named(frames_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=r"edge_worker ended with code 1"):
        Contestant(start_of(tmp_path / "missing.lad", frames_file, tmp_path))
    assert "no such file" in capfd.readouterr().err


def test_memory_grows_with_what_is_held() -> None:
    before = memory_mb()
    held = np.ones(50_000_000, np.uint8)
    after = memory_mb()
    assert after["resident_mb"] - before["resident_mb"] == pytest.approx(held.nbytes / 1e6, abs=5)
    assert after["peak_mb"] >= after["resident_mb"]


def test_first_record_of_run_is_timed(tiny_bundle: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "part.png"), tiny.good_picture(1))
    command = [str(Path(sys.executable).with_name("lad-edge")), "run", "--engine", str(tiny_bundle), "--source"]
    assert first_record_s([*command, str(tmp_path)]) > 0


def test_a_run_without_a_record_is_an_error(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("lad-edge")), "run", "--engine", str(tiny_bundle), "--source"]
    with pytest.raises(RuntimeError, match="no record"):
        first_record_s([*command, str(tmp_path / "missing")])
