"""What `lad-edge doctor` says of GPUs: calm without one, and with the command where something slows one down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gpu_needs import needs_no_gpu, needs_rtx

from lad_edge.cli import gpu_checks, main
from lad_edge.cli.gpu_checks import check_gpus, check_power, check_tensorrt
from lad_edge.cli.trial import Finding
from lad_edge.runtime import compiler
from lad_edge.runtime.gpu import Gpu, Gpus, find_gpus


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def tool(folder: Path, name: str, output: str, code: int = 0) -> None:
    """A program that says `output`; it is given the words of the real one."""
    (folder / name).write_text(f"#!/bin/sh\necho '{output}'\nexit {code}\n")
    (folder / name).chmod(0o755)


def warned(findings: list[Finding]) -> dict[str, str]:
    return {finding.detail: finding.remedy for finding in findings if finding.status != "ok"}


@needs_no_gpu
def test_a_machine_without_a_gpu_is_told_so_calmly(capfd: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    findings = {finding["name"]: finding for finding in json.loads(capfd.readouterr().out)["findings"]}
    assert {"gpu", "cuda kernels", "tensorrt", "tensorrt_rtx", "onnxruntime_cuda"} <= findings.keys()
    assert findings["gpu"]["status"] in ("ok", "warn")
    assert "CPU" in findings["gpu"]["detail"] + findings["gpu"]["remedy"]
    assert all(findings[name]["status"] != "fail" for name in ("gpu", "cuda kernels", "tensorrt", "tensorrt_rtx"))


@needs_no_gpu
@needs_rtx
def test_tensorrt_rtx_is_tried_without_a_gpu() -> None:
    details = {finding.name: finding.detail for finding in check_tensorrt()}
    assert "builds engines for other machines, a small one in" in details["tensorrt_rtx"]


def test_without_the_tools_nothing_is_said_of_power(tools: Path) -> None:
    assert list(check_power()) == []


def test_a_sleepy_and_a_throttled_gpu_get_their_commands(tools: Path) -> None:
    tool(tools, "nvidia-smi", "Disabled, 210, 3105, 300.00, 450.00")
    assert warned(list(check_power())) == {
        "GPU 0: the driver unloads while nobody uses it: slow starts": "sudo nvidia-smi -i 0 -pm 1",
        "GPU 0: limited to 300.00 W of 450.00 W": "sudo nvidia-smi -i 0 -pl 450",
    }


def test_a_gpu_that_is_well_set_up_is_only_described(tools: Path) -> None:
    tool(tools, "nvidia-smi", "Enabled, 1980, 1980, 700.00, 700.00\nEnabled, 345, 1980, [N/A], [N/A]")
    found = list(check_power())
    assert warned(found) == {}
    assert [finding.detail for finding in found] == [
        "GPU 0: 1980 of 1980 MHz now, it rises under load",
        "GPU 1: 345 of 1980 MHz now, it rises under load; sudo nvidia-smi -i 1 -lgc 1980 keeps it there",
    ]


@pytest.mark.parametrize(("output", "code"), [("NVIDIA-SMI has failed", 9), ("something, else", 0), ("", 0)])
def test_a_tool_that_fails_or_says_something_else_is_left_alone(tools: Path, output: str, code: int) -> None:
    tool(tools, "nvidia-smi", output, code)
    assert list(check_power()) == []


def test_a_jetson_in_a_low_power_mode_is_told_how_to_leave_it(tools: Path) -> None:
    tool(tools, "nvpmodel", "NV Power Mode: 15W\n2")
    assert "sudo nvpmodel -m 0" in warned(list(check_power()))["power mode 15W"]
    tool(tools, "nvpmodel", "NV Power Mode: MAXN_SUPER\n2")
    assert warned(list(check_power())) == {}


@needs_rtx
def test_a_gpu_that_tensorrt_rtx_does_not_build_for_gets_the_name_of_what_runs_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hopper = Gpus((Gpu("NVIDIA H100", "9.0", 80 << 30),), "13.0", "580")
    for module in (compiler, gpu_checks):
        monkeypatch.setattr(module, "find_gpus", lambda: hopper)
    (found,) = (finding for finding in check_tensorrt() if finding.name == "tensorrt_rtx")
    assert (found.status, found.remedy) == ("warn", "pip install 'lad-edge[tensorrt]' or 'lad-edge[onnxruntime-gpu]'")
    assert "does not build for compute capability 9.0" in found.detail


@pytest.mark.gpu
@pytest.mark.skipif(not find_gpus().devices, reason="no NVIDIA GPU")
def test_a_kernel_runs_on_the_gpu_of_this_machine() -> None:
    pytest.importorskip("pycuda.driver", exc_type=ImportError, reason="pycuda is not installed")
    (found,) = (finding for finding in check_gpus() if finding.name == "cuda kernels")
    assert (found.status, found.detail[:6]) == ("ok", "run on")


@needs_no_gpu
def test_the_gpus_of_this_machine_are_none() -> None:
    assert {finding.name for finding in check_gpus()} == {"gpu", "cuda kernels"}
