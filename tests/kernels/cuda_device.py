"""Where the CUDA kernels run in tests: on a GPU if one is here, and always on the host.

On the host the same .cu files and bindings are compiled by the C++ compiler against `cuda_on_host/`, which runs their threads one
after the other, in an order of choice. Arrays lie between guards of 0xff bytes: what is read beyond an array shows as NaN, what is
written there is found.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pybind11
import pytest
from numpy.typing import DTypeLike, NDArray

ROOT = Path(__file__).parents[2]
SHIM = Path(__file__).parent / "cuda_on_host"
ORDERS = ("forward", "backward")
GUARD = 256  # bytes on each side of an array, and the alignment of its first byte
FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-U_FORTIFY_SOURCE",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-psabi",
)


class DeviceArray:
    """Packed values between two guards; the rest of the tests sees `__cuda_array_interface__` alone."""

    def __init__(self, memory: Any, pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.memory, self.pointer, self.shape, self.dtype = memory, pointer, shape, dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        data = (self.pointer, False)
        return {"shape": self.shape, "typestr": self.dtype.str, "strides": None, "data": data, "version": 3}


class HostDevice:
    """The processor, with the threads of a block in one of ORDERS."""

    def __init__(self, order: str) -> None:
        self.kernels, self.stream = module_on_host(), 0
        ctypes.CDLL(str(self.kernels.__file__)).on_host_set_order(ORDERS.index(order))

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """A copy of it on the device."""
        made = self.empty(array.shape, array.dtype)
        self._write(made, np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8))
        return made

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """An array of 0xff bytes, so that what is not written shows."""
        kind = np.dtype(dtype)
        memory = self._allocate(2 * GUARD + int(np.prod(shape)) * kind.itemsize + GUARD)
        start = -self._address(memory) % GUARD + GUARD
        return DeviceArray((memory, start), self._address(memory) + start, shape, kind)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """An array of zeros."""
        return self.put(np.zeros(shape, dtype))

    def counter(self) -> DeviceArray:
        """One that has counted nothing yet."""
        return self.zeros((1,), np.int64)

    def workspace(self, size: int) -> DeviceArray:
        """So many bytes."""
        return self.empty((size,), np.uint8)

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """What it holds; fails if a byte beside it was written."""
        memory, start = array.memory
        held = self._read(memory)
        size = int(np.prod(array.shape)) * array.dtype.itemsize
        beside = np.concatenate([held[:start], held[start + size :]])
        assert (beside == 0xFF).all(), "bytes beside the array were written"
        return held[start : start + size].view(array.dtype).reshape(array.shape)

    def run_twice(self, enqueue: Callable[[], None]) -> None:
        """What `enqueue` puts on the stream, twice; on a GPU the second time as a graph."""
        enqueue()
        enqueue()

    def _allocate(self, size: int) -> Any:
        return np.full(size, 0xFF, np.uint8)

    def _address(self, memory: Any) -> int:
        return int(memory.ctypes.data)

    def _write(self, array: DeviceArray, values: NDArray[np.uint8]) -> None:
        memory, start = array.memory
        memory[start : start + len(values)] = values

    def _read(self, memory: Any) -> NDArray[np.uint8]:
        return np.array(memory)


class GpuDevice(HostDevice):
    """The first GPU, on a stream of its own, with memory of torch."""

    def __init__(self) -> None:
        import torch

        from lad_edge.kernels import _cuda

        self.torch, self.kernels = torch, _cuda
        self._stream = torch.cuda.Stream()
        self.stream = self._stream.cuda_stream

    def run_twice(self, enqueue: Callable[[], None]) -> None:
        """Once as it is, which loads the kernels, and once as a graph."""
        enqueue()
        self.torch.cuda.synchronize()
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph, stream=self._stream):
            enqueue()
        graph.replay()
        self.torch.cuda.synchronize()

    def _allocate(self, size: int) -> Any:
        memory = self.torch.full((size,), 0xFF, dtype=self.torch.uint8, device="cuda")
        self.torch.cuda.synchronize()
        return memory

    def _address(self, memory: Any) -> int:
        return int(memory.data_ptr())

    def _write(self, array: DeviceArray, values: NDArray[np.uint8]) -> None:
        memory, start = array.memory
        memory[start : start + len(values)] = self.torch.from_numpy(values.copy()).cuda()
        self.torch.cuda.synchronize()

    def _read(self, memory: Any) -> NDArray[np.uint8]:
        self.torch.cuda.synchronize()
        return np.asarray(memory.cpu().numpy())


def open_device(name: str) -> HostDevice:
    """One of ORDERS, or "gpu". Skips where there is no compiler, or no GPU."""
    if name in ORDERS:
        return HostDevice(name)
    if pytest.importorskip("lad_edge.kernels._cuda", reason="built without nvcc").device_count() == 0:
        pytest.skip("no NVIDIA GPU")
    if not pytest.importorskip("torch", reason="the training extra is not installed").cuda.is_available():
        pytest.skip("torch does not know the GPU")
    return GpuDevice()


@cache
def module_on_host() -> ModuleType:
    """The kernels for the host; compiled when their sources have changed."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    sources = sorted([*(ROOT / "csrc").rglob("*.*"), *SHIM.iterdir()])
    key = hashlib.sha256("".join([sys.version, compiler, *FLAGS]).encode())
    for source in sources:
        key.update(source.read_bytes())
    target = ROOT / "build" / "cuda_on_host" / key.hexdigest()[:16] / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)  # where several processes need it at a time, one compiles and the others wait
        if not target.exists():
            compile_module(compiler, Path(folder)).replace(target)
    spec = importlib.util.spec_from_file_location("cuda_on_host._cuda", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compile_module(compiler: str, folder: Path) -> Path:
    """Objects and module in `folder`; kernels optimised, bindings in one piece, which takes a fraction of the time."""
    includes = [SHIM, ROOT / "csrc/include", ROOT / "csrc/bindings", ROOT / "csrc/cuda"]
    paths = [pybind11.get_include(), sysconfig.get_path("include"), *map(str, includes)]
    flags = [*FLAGS, *(f"-I{path}" for path in paths)]
    bindings = folder / "bindings.cpp"
    parts = sorted(path.name for path in (ROOT / "csrc/bindings").glob("cuda*.cpp"))
    bindings.write_text("".join(f'#include "{part}"\n' for part in parts), encoding="utf-8")
    kernels = [*(ROOT / "csrc/cuda").glob("*.cu"), SHIM / "on_host.cpp"]

    def to_object(source: Path) -> Path:
        target = folder / f"{source.name}.o"
        effort = "-O0" if source == bindings else "-O2"
        run([compiler, *flags, effort, "-x", "c++", "-c", str(source), "-o", str(target)])
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(to_object, [bindings, *kernels]))
    run([compiler, "-shared", *map(str, objects), "-o", str(folder / "module")])
    return folder / "module"


def run(command: list[str]) -> None:
    """Fails with what the compiler said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
