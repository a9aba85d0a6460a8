"""The order in which a plan is opened and run, against a recording TensorRT and GPU: in addition to what a real GPU proves.

The engine of these tests is numpy on host memory; who calls whom, when, and with which arrays is what is tested.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lad_edge.bundle import Device, Graph
from lad_edge.errors import EngineError
from lad_edge.runtime import identity, open_plan, tensorrt
from lad_edge.runtime.gpu import Gpu, Gpus
from lad_edge.runtime.tensorrt import TensorRtRuntime

SHAPE = (2, 3)
GRAPH = Graph("graph/main", "tensorrt_rtx", {"x": SHAPE}, {"y": SHAPE}, source="onnx/main")
DEVICE = Device(
    runtime="tensorrt_rtx",
    version="1.7.1",
    compute_capabilities=("8.9",),
    precision="f16",
    gpu=None,
    driver=None,
    cuda=None,
    system=f"{platform.system()} {platform.machine()}",
    source_sha256="0" * 64,
)


class Recorder:
    """Host memory for the GPU's; `calls` is what was asked of GPU and engine, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.stream, self.context = self, object()
        self.handle = 77

    @contextmanager
    def active(self) -> Iterator[None]:
        self.calls.append("active")
        yield
        self.calls.append("inactive")

    def pinned(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.zeros(shape, np.float32)

    def array(self, shape: tuple[int, ...]) -> Any:
        pointer = 1000 + len(self.memory)
        self.memory[pointer] = np.zeros(shape, np.float32)
        return SimpleNamespace(pointer=pointer, shape=shape, dtype=np.dtype(np.float32))

    def upload(self, source: np.ndarray[Any, Any], target: Any) -> None:
        self.calls.append("upload")
        self.memory[target.pointer][:] = source

    def download(self, source: Any, target: np.ndarray[Any, Any]) -> None:
        self.calls.append("download")
        target[:] = self.memory[source.pointer]

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def close(self) -> None:
        self.calls.append("close")
        self.context = None  # type: ignore[assignment]


class Engine:
    """y = 2 x. Shapes and cache as a real engine reports them."""

    def __init__(self, gpu: Recorder, shapes: dict[str, tuple[int, ...]]) -> None:
        self.gpu, self.shapes, self.addresses = gpu, shapes, dict[str, int]()
        self.num_io_tensors, self.works, self.capturable, self.loaded = len(shapes), True, True, b""

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == "x" else "output"

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def create_runtime_config(self) -> Any:
        cache = SimpleNamespace(serialize=lambda: b"compiled", deserialize=self.load)
        return SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda _cache: True)

    def load(self, cache: Any) -> bool:
        self.loaded = bytes(cache)
        return True

    def create_execution_context(self, _settings: object) -> Any:
        return self

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.gpu.calls.append(f"address of {name}")
        self.addresses[name] = address
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        assert stream == self.gpu.handle
        return self.capturable

    def execute_async_v3(self, stream: int) -> bool:
        self.gpu.calls.append("execute" if stream == self.gpu.handle else f"execute on {stream}")
        self.gpu.memory[self.addresses["y"]][:] = 2 * self.gpu.memory[self.addresses["x"]]
        return self.works


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    found = Gpus((Gpu("Recorder", "8.9", 1 << 30),))
    monkeypatch.setattr(tensorrt, "Cuda", lambda: recorder)
    for module in (tensorrt, identity):
        monkeypatch.setattr(module, "find_gpus", lambda: found)
    monkeypatch.setattr(tensorrt, "logger", lambda _runtime: SimpleNamespace(last=lambda: "the reason in its log"))
    return recorder


@pytest.fixture
def opened(gpu: Recorder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[TensorRtRuntime, Engine]]:
    """opened(shapes, caches) → the runtime of a plan and the engine inside it."""

    def make(shapes: Any = None, caches: Any = None) -> tuple[TensorRtRuntime, Engine]:
        engine = Engine(gpu, shapes or {"x": SHAPE, "y": SHAPE})
        runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: engine if bytes(data) == b"vtrt" else None)
        package = SimpleNamespace(
            __version__="1.7.1",
            Runtime=lambda _log: runtime,
            TensorIOMode=SimpleNamespace(INPUT="input"),
            float32="float32",
        )
        monkeypatch.setattr(tensorrt, "package", lambda _runtime: package)
        plan = open_plan(DEVICE, {"main": (GRAPH, b"vtrt")}, caches or {}, file="x.plan")
        assert isinstance(plan, TensorRtRuntime)
        return plan, engine

    return make


def test_a_frame_goes_up_runs_and_comes_down_in_this_order(gpu: Recorder, opened: Any) -> None:
    runtime, _ = opened()
    x, y = np.arange(6, dtype=np.float32).reshape(SHAPE), np.zeros(SHAPE, np.float32)
    runtime.run("main", x=x, y=y)
    gpu.calls.clear()
    for _turn in range(2):
        runtime.run("main", x=x, y=y)
        np.testing.assert_array_equal(y, 2 * x)
        x += 1
    once = ["active", "upload", "execute", "download", "synchronize", "inactive"]
    assert gpu.calls == once * 2


def test_arrays_on_the_gpu_are_computed_on_where_they_are(gpu: Recorder, opened: Any) -> None:
    runtime, _ = opened()
    x, y = gpu.array(SHAPE), gpu.array(SHAPE)
    gpu.memory[x.pointer][:] = 3
    gpu.calls.clear()
    for _turn in range(2):
        runtime.enqueue("main", x=x, y=y)
    assert (gpu.memory[y.pointer] == 6).all()
    assert gpu.calls == ["address of x", "address of y", "execute", "execute"]
    with pytest.raises(EngineError, match=r"graph 'main': expected float32 arrays on the GPU: x \(2, 3\), y \(2, 3\)"):
        runtime.enqueue("main", x=x, y=gpu.array((3, 2)))
    with pytest.raises(EngineError, match="no graph 'other'; open are: main"):
        runtime.enqueue("other", x=x, y=y)


def test_a_graph_runs_on_another_stream_if_that_is_asked(gpu: Recorder, opened: Any) -> None:
    runtime, _ = opened()
    gpu.calls.clear()
    runtime.enqueue("main", SimpleNamespace(handle=5), x=gpu.array(SHAPE), y=gpu.array(SHAPE))
    assert gpu.calls[-1] == "execute on 5"


def test_an_engine_that_cannot_be_captured_is_named(opened: Any) -> None:
    runtime, engine = opened()
    assert runtime.cannot_capture() == ""
    engine.capturable = False
    assert runtime.cannot_capture() == "tensorrt_rtx cannot be captured in main"


def test_it_says_what_it_runs(opened: Any) -> None:
    runtime, _ = opened()
    assert (runtime.name, runtime.version, runtime.precision) == ("tensorrt_rtx", "1.7.1", "f16")
    assert runtime.device == "Recorder"


def test_what_was_compiled_is_given_to_the_engine_and_can_be_kept(opened: Any) -> None:
    runtime, engine = opened(caches={"main": memoryview(b"earlier")})
    assert engine.loaded == b"earlier"
    assert runtime.compiled() == {"main": b"compiled"}


@pytest.mark.parametrize("shapes", [{"x": SHAPE, "y": (2, 4)}, {"x": SHAPE, "z": SHAPE}, {"x": SHAPE}])
def test_an_engine_that_is_not_what_the_plan_says_is_refused_and_the_gpu_released(
    gpu: Recorder, opened: Any, shapes: Any
) -> None:
    with pytest.raises(EngineError, match="graph 'main': the engine has other inputs or outputs"):
        opened(shapes)
    assert gpu.calls[-1] == "close"


def test_an_engine_that_fails_gives_the_reason_of_its_log(opened: Any) -> None:
    runtime, engine = opened()
    engine.works = False
    with pytest.raises(EngineError, match="graph 'main': tensorrt_rtx failed: the reason in its log"):
        runtime.run("main", x=np.zeros(SHAPE, np.float32), y=np.zeros(SHAPE, np.float32))


def test_buffers_that_do_not_fit_never_reach_the_gpu(gpu: Recorder, opened: Any) -> None:
    runtime, _ = opened()
    gpu.calls.clear()
    with pytest.raises(EngineError, match="'x' expects float32"):
        runtime.run("main", x=np.zeros((3, 2), np.float32), y=np.zeros(SHAPE, np.float32))
    assert gpu.calls == []


def test_it_is_closed_once_and_runs_nothing_afterwards(gpu: Recorder, opened: Any) -> None:
    runtime, _ = opened()
    runtime.close()
    runtime.close()
    assert gpu.calls.count("close") == 1
    with pytest.raises(EngineError, match="open are: none"):
        runtime.run("main", x=np.zeros(SHAPE, np.float32), y=np.zeros(SHAPE, np.float32))
