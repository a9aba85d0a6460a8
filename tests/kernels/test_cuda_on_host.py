"""The host that stands in for a GPU: it runs right kernels, and does not overlook what is wrong with others."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cuda_device import FLAGS, ROOT, SHIM, run

REVERSED = sum(i * (63 - i) for i in range(64))
NEIGHBOURS = sum(i * (i ^ 1) for i in range(64))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """faults.cpp, compiled."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    target = tmp_path_factory.mktemp("faults") / "faults"
    includes = [f"-I{SHIM}", f"-I{ROOT / 'csrc/cuda'}"]
    run([compiler, *FLAGS, "-O2", *includes, str(SHIM / "faults.cpp"), str(SHIM / "on_host.cpp"), "-o", str(target)])
    return target


def outcomes(program: Path, case: str) -> list[str]:
    """What the case prints, in each order of the threads."""
    calls = [[str(program), case, order] for order in ("0", "1")]
    return [subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip() for call in calls]


def test_right_kernels_give_one_result_in_every_order(program: Path) -> None:
    assert outcomes(program, "with_barrier") == [str(REVERSED)] * 2
    assert outcomes(program, "exchange") == [str(NEIGHBOURS)] * 2


def test_a_missing_barrier_shows(program: Path) -> None:
    results = outcomes(program, "without_barrier")
    assert results[0] != results[1]
    assert str(REVERSED) not in results


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("lonely_barrier", "barrier: some threads wait for others that do not come"),
        ("behind_shared_memory", "shared memory is written behind its end"),
        ("half_a_warp", "warp exchange: only the full mask is supported"),
        ("too_much_shared_memory", "try: CUDA error cudaErrorInvalidValue, refused by the host"),
        ("too_many_threads", "try: CUDA error cudaErrorInvalidConfiguration, refused by the host"),
    ],
)
def test_what_is_wrong_is_said(program: Path, case: str, message: str) -> None:
    assert outcomes(program, case) == [message] * 2
