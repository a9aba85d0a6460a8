"""The CUDA module imports anywhere; what it computes is tested where a GPU is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lad_edge import kernels

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
    bytes_needed = cuda.fuse_workspace_bytes(map_size=(5, 6), border=4, size=(20, 30))
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
    small = cuda.fuse_workspace_bytes(map_size=(56, 56), border=4, size=(256, 256))
    assert small >= 3 * 64 * 64 * 4
    assert cuda.fuse_workspace_bytes(map_size=(56, 56), border=4, size=(1024, 1280)) > small


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"structural": np.zeros((5, 6), np.float32)}, TypeError, "__cuda_array_interface__, got ndarray"),
        ({"structural": Pretended((5, 6), "<f8")}, TypeError, "structural: .*<f4, got <f8"),
        ({"logical": Pretended((5, 6), "<f4", strides=(48, 8))}, TypeError, "logical"),
        ({"logical": Pretended((6, 5), "<f4")}, ValueError, "one shape"),
        ({"out": Pretended((20, 31), "<f4")}, ValueError, r"out: expected shape \(20, 30\)"),
        ({"out": Pretended((20, 30), "<f4", read_only=True)}, TypeError, "writable"),
        ({"result": Pretended((5,), "<f8")}, ValueError, "result"),
        ({"workspace": Pretended((16,), "|u1")}, ValueError, "workspace: expected at least"),
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
    with pytest.raises(RuntimeError, match="fuse: clear: CUDA error"):
        cuda.fuse(**{**arguments(), "structural": packed})


def random_map(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32) * np.float32(0.02)


@pytest.mark.gpu
@pytest.mark.skipif(cuda.device_count() == 0, reason="no NVIDIA GPU")
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("border_mode", ["zero", "replicate"])
@pytest.mark.parametrize("shape", [(1, 1), (15, 17), (33, 31), (56, 56), (97, 65)])
@pytest.mark.parametrize("size", [(1, 1), (31, 33), (256, 256), (1024, 1280)])
@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
def test_fuse_on_the_gpu_equals_the_cpu(
    shape: tuple[int, int], size: tuple[int, int], border_mode: str, sigmoid: bool, bad: float | None
) -> None:
    torch = pytest.importorskip("torch", reason="the training extra is not installed")
    structural, logical = random_map(*shape, seed=1), random_map(*shape, seed=2)
    if bad is not None:
        logical[shape[0] // 2, -1] = bad
    options = {**OPTIONS, "sigmoid": sigmoid, "border_mode": border_mode, "size": size}
    expected_map = np.empty(size, np.float32)
    expected = kernels.fuse(structural, logical, out=expected_map, **options)
    bytes_needed = cuda.fuse_workspace_bytes(map_size=shape, border=OPTIONS["border"], size=size)
    result = torch.empty(6, dtype=torch.float64, device="cuda")
    workspace = torch.empty(bytes_needed, dtype=torch.uint8, device="cuda")
    out = torch.empty(size, dtype=torch.float32, device="cuda")
    stream = torch.cuda.Stream()
    on_device = [torch.from_numpy(m).cuda() for m in (structural, logical)]
    stream.wait_stream(torch.cuda.current_stream())
    cuda.fuse(*on_device, **options, out=out, result=result, workspace=workspace, stream=stream.cuda_stream)
    stream.synchronize()
    assert_array_equal(result.cpu().numpy(), np.array(expected, np.float64))
    assert_array_equal(out.cpu().numpy(), expected_map)
