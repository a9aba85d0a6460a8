"""The CUDA module imports anywhere and refuses wrong arrays before it enqueues anything; what it computes: test_cuda_*.py."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

cuda = pytest.importorskip("lad_edge.kernels._cuda", reason="built without nvcc")
OPTIONS = {"scale": (30.0, 20.0), "offset": (-0.1, -0.2), "sigmoid": False, "border": 4, "border_mode": "zero"}


@dataclass
class Pretended:
    """A device array in form only: enough for the checks, which come before any launch."""

    shape: tuple[int, ...]
    typestr: str
    strides: tuple[int, ...] | None = None
    read_only: bool = False

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        data = (4096, self.read_only)
        return {"shape": self.shape, "typestr": self.typestr, "strides": self.strides, "data": data, "version": 3}


def arguments() -> dict[str, Any]:
    bytes_needed = cuda.fuse_workspace_bytes(size=(20, 30))
    maps = {"structural": Pretended((5, 6), "<f4"), "logical": Pretended((5, 6), "<f4")}
    buffers = {"result": Pretended((6,), "<f8"), "workspace": Pretended((bytes_needed,), "|u1")}
    return {**maps, **buffers, **OPTIONS, "size": (20, 30), "stream": 0}


def test_devices_are_named() -> None:
    assert cuda.device_count() == len(cuda.device_names())
    assert all(cuda.device_names())


def test_no_visible_device_is_no_error() -> None:
    code = "from lad_edge.kernels import _cuda; print(_cuda.device_count(), _cuda.device_names())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"CUDA_VISIBLE_DEVICES": "-1"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0 []"


def test_workspace_grows_with_the_sizes() -> None:
    small = cuda.fuse_workspace_bytes(size=(256, 256))
    assert 0 < small < cuda.fuse_workspace_bytes(size=(1024, 1280))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"structural": np.zeros((5, 6), np.float32)}, TypeError, "__cuda_array_interface__, got ndarray"),
        ({"structural": Pretended((5, 6), "<f8")}, TypeError, "structural: .*<f4 or <f2, got <f8"),
        ({"logical": Pretended((5, 6), "<f4", strides=(48, 8))}, TypeError, "logical: expected a C-contiguous"),
        ({"logical": Pretended((5, 6), "<f2")}, TypeError, "logical: .*<f4, got <f2"),
        ({"logical": Pretended((6, 5), "<f4")}, ValueError, "one shape"),
        ({"out": Pretended((20, 31), "<f4")}, ValueError, r"out: expected shape \(20, 30\)"),
        ({"out": Pretended((20, 30), "<f4", read_only=True)}, TypeError, "writable"),
        ({"result": Pretended((5,), "<f8")}, ValueError, "result"),
        ({"workspace": Pretended((16,), "|u1")}, ValueError, "workspace: expected .* bytes or more"),
        ({"border_mode": "wrap"}, ValueError, "border_mode"),
    ],
)
def test_wrong_arguments_are_refused_before_any_launch(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cuda.fuse(**{**arguments(), **change})


@pytest.mark.skipif(cuda.device_count() > 0, reason="a GPU is here")
def test_launch_without_a_gpu_says_so() -> None:
    packed = Pretended((5, 6), "<f4", strides=(24, 4))
    with pytest.raises(RuntimeError, match="fuse: upsample: CUDA error"):
        cuda.fuse(**{**arguments(), "structural": packed})
