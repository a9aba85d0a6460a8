"""The check of a GPU machine, rehearsed without a GPU: steps are processes that fail alone, and what they found is kept."""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gpu_needs import needs_no_gpu

from benchmarks import gpu_check
from benchmarks.gpu_check import Check, StepToRun
from benchmarks.gpu_step import FAILED, NO_GPU, PASSED, NoGpuError, NotHereError, Place, Step, run_limited


def arguments(folder: Path, **more: object) -> argparse.Namespace:
    given = {
        "work": folder / "work",
        "results": folder,
        "minutes": 5.0,
        "steps": None,
        "rehearse": True,
        "wheels": None,
    }
    return argparse.Namespace(**{**given, **more})


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(Place(tmp_path / "found.json", tmp_path, rehearse=True))


def ends_within(pid: int, limit_s: float) -> bool:
    """Whether a process that is none of ours is gone, or goes."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(process):
        return bool(select.select([process], [], [], limit_s)[0])


def raises(error: Exception) -> Any:
    def answer() -> dict[str, object]:
        raise error

    return answer


# ---- one step


def test_an_answer_is_on_the_disk_before_the_next_question(step: Step) -> None:
    step.ask("first", lambda: {"p50": 1.5})

    def second() -> dict[str, object]:
        return {"before": json.loads(step.place.json.read_text())}

    assert step.ask("second", second) == {"status": "passed", "before": {"first": {"status": "passed", "p50": 1.5}}}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValueError("too short"), "failed", FAILED),
        (NoGpuError("no driver"), "no GPU", NO_GPU),
        (NotHereError("not installed"), "not here", PASSED),
    ],
)
def test_a_question_that_fails_is_written_down_and_hinders_no_other(
    step: Step, error: Exception, status: str, code: int
) -> None:
    assert step.ask("bad", raises(error)) is None
    assert step.ask("good", dict) is not None
    found = json.loads(step.place.json.read_text())
    assert (found["bad"]["status"], found["good"]["status"]) == (status, "passed")
    assert str(error) in found["bad"]["error"]
    assert step.exit_code() == code


def test_a_step_without_an_answer_has_failed(step: Step) -> None:
    assert step.exit_code() == FAILED


# ---- the check


def test_a_step_that_takes_too_long_is_ended_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, quick = StepToRun("slow", "gpu_facts", 0.001, own=True), StepToRun("quick", "gpu_environment", 60, own=True)
    monkeypatch.setattr(gpu_check, "WAVES", ((slow,), (quick,)))
    check = Check(arguments(tmp_path))
    assert check.run() == FAILED
    written = json.loads(check.target().read_text())["steps"]
    assert written["slow"]["status"] == "ended after 0 s"
    assert written["quick"]["status"] == "no GPU"
    assert "ended after 0 s" in capsys.readouterr().out


def test_what_is_no_number_and_where_this_machine_keeps_things_hinder_no_result(tmp_path: Path) -> None:
    check = Check(arguments(tmp_path))
    check.found["facts"] = {"status": "passed", "found": {"gpu": {"ratio": float("nan"), "at": str(check.work / "x")}}}
    check._write()
    written = json.loads(check.target().read_text())["steps"]["facts"]["found"]["gpu"]
    assert written == {"ratio": "NaN", "at": "WORK/x"}


def test_a_step_for_which_no_time_is_left_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "WAVES", ((StepToRun("facts", "gpu_facts", 60, own=True),),))
    check = Check(arguments(tmp_path, minutes=0.0))
    assert check.run() == FAILED
    assert check.found["facts"]["status"] == "no time left"


def test_a_step_leaves_later_ones_the_time_that_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = StepToRun("greedy", "gpu_facts", 60, own=True)
    modest = StepToRun("modest", "gpu_facts", 60, own=True, least_s=50)
    monkeypatch.setattr(gpu_check, "WAVES", ((greedy,), (modest,)))
    limits: dict[str, float] = {}

    def noted(check: Check, step: StepToRun, most_s: float) -> None:
        limits[step.name] = most_s
        check.found[step.name] = {"status": "passed", "found": {}, "seconds": 0}

    monkeypatch.setattr(Check, "run_step", noted)
    assert Check(arguments(tmp_path, minutes=1.0)).run() == PASSED
    assert 0 < limits["greedy"] <= 10
    assert 50 < limits["modest"] <= 60


def test_what_is_ended_at_its_limit_takes_its_children_along(tmp_path: Path) -> None:
    script = "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
    with (tmp_path / "log").open("w") as log:
        code = run_limited([sys.executable, "-c", script], 2, log)
    assert code is None
    assert ends_within(int((tmp_path / "log").read_text()), 5)


def test_a_module_that_breaks_down_leaves_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "WAVES", ((StepToRun("none", "gpu_of_nobody", 60, own=True),),))
    check = Check(arguments(tmp_path))
    assert check.run() == FAILED
    assert "gpu_of_nobody" in check.found["none"]["last_words"]


@needs_no_gpu
@pytest.mark.torch
def test_without_a_gpu_nothing_is_done_in_vain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = Check(arguments(tmp_path, rehearse=False))
    assert check.run() == NO_GPU
    assert list(check.found) == ["facts"]
    assert "--rehearse does what a CPU can do" in capsys.readouterr().out


@needs_no_gpu
@pytest.mark.torch
@pytest.mark.slow
def test_a_rehearsal_does_what_a_cpu_can_do_of_each_step(tmp_path: Path) -> None:
    steps = ["facts", "environment", "engines", "sanitizer", "kernels", "plans", "frames", "peer"]
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--rehearse", "--work", str(tmp_path / "work")]
    done = subprocess.run(
        [*command, "--results", str(tmp_path), "--steps", *steps], cwd=gpu_check.ROOT, capture_output=True, text=True
    )
    assert done.returncode == NO_GPU, done.stdout + done.stderr
    written = json.loads((tmp_path / "gpu_none.json").read_text())["steps"]
    assert list(written) == steps
    assert {name for name in steps if written[name]["status"] == "no GPU"} == set(steps[:2]) | {"sanitizer", "kernels"}
    frames = written["frames"]["found"]
    for found in frames.values():
        assert found["questions"]["parity, stream"]["verdicts_equal"] == 8
        assert found["questions"]["CUDA graph"]["calls"] >= 1
    latency = written["peer"]["found"]["latency_ms"]
    assert set(latency) == {"status", "lad-edge lad", "torch eager f32", "onnxruntime f16"}
    assert "| torch eager f32" in done.stdout
