"""TensorRT and TensorRT-RTX: engines of a plan go in, filled buffers come out. The only file that knows their runtime.

Both flavours have one interface; engines are built in `compiler.py`, never here.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.errors import EngineError, MissingDependencyError
from lad_edge.runtime.buffers import BufferSets, OpenGraphs, check_device_arrays, opened_as
from lad_edge.runtime.device import Cuda
from lad_edge.runtime.gpu import find_gpus
from lad_edge.runtime.identity import check_belongs_here

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lad_edge.bundle import Device, Graph
    from lad_edge.runtime import Graphs
    from lad_edge.runtime.arrays import DeviceArray
    from lad_edge.runtime.device import Stream

EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}  # runtime → extra of the installation


def open_plan(device: Device, graphs: Graphs, caches: Mapping[str, memoryview], name: str) -> TensorRtRuntime:
    """Open the engines of a plan. The bundle has checked the sha256 of engines and caches: both are native code.

    name: of the file, for the error. Raises EngineError where the plan was built for something else, before CUDA starts.
    """
    check_belongs_here(device, name)
    return TensorRtRuntime(device, graphs, caches)


class TensorRtRuntime(OpenGraphs):
    """Engines on one GPU and one stream: host buffers go up, the engine runs, results come down, then `run` returns."""

    threads = 1  # the caller's; the GPU has its own

    def __init__(self, device: Device, graphs: Graphs, caches: Mapping[str, memoryview]) -> None:
        self.name, self.version, self.precision = device.runtime, device.version, device.precision
        self.device = find_gpus().devices[0].name
        self.cuda = Cuda()
        self.engines: dict[str, _Engine] = {}
        with ExitStack() as if_it_fails:
            if_it_fails.callback(self.cuda.close)
            with self.cuda.active():
                runtime = package(self.name).Runtime(logger(self.name))
                for role, (graph, data) in graphs.items():
                    self.engines[role] = _Engine(role, graph, runtime, data, caches.get(role), self.cuda)
            if_it_fails.pop_all()
        super().__init__(self.engines)

    def enqueue(
        self, graph: str, stream: Stream | None = None, _recording: bool = False, /, **arrays: DeviceArray
    ) -> None:
        """Run a graph on arrays of the GPU, float32 of the graph's shapes, behind what `stream` has to do; returns at once.

        stream: None = `cuda.stream`. To be called inside `with cuda.active():`, and as often as wanted inside `cuda.stream.capture()`.
        """
        opened_as(graph, self.engines).enqueue(arrays, stream or self.cuda.stream)

    def cannot_capture(self) -> str:
        """Why a frame cannot be one CUDA graph here; empty if it can."""
        refusing = [role for role, engine in self.engines.items() if not engine.capturable()]
        return f"{self.name} cannot be captured in {', '.join(refusing)}" if refusing else ""

    def compiled(self) -> dict[str, bytes]:
        """Return role → what TensorRT-RTX compiled for this GPU so far, to be kept in the plan; TensorRT compiles nothing."""
        caches = ((role, engine.compiled()) for role, engine in self.engines.items())
        return {role: cache for role, cache in caches if cache}

    def close(self) -> None:
        """Release the engines, then the GPU."""
        if self.cuda.context is not None:
            with self.cuda.active():
                super().close()
                self.engines = {}
            self.cuda.close()


class _Engine:
    """One engine and its context; for buffers of the host also pinned and device arrays of its inputs and outputs."""

    def __init__(
        self, role: str, graph: Graph, runtime: Any, data: bytes | memoryview, cache: memoryview | None, cuda: Cuda
    ) -> None:
        self.role, self.graph, self.cuda = role, graph, cuda
        self.log = logger(graph.format)
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise EngineError(f"graph '{role}': {graph.format} refuses the engine: {self.log.last()}; build it again")
        _check_tensors(package(graph.format), engine, role, graph)
        self.cache, self.context = _start(engine, cache)
        if self.context is None:
            raise EngineError(f"graph '{role}': {graph.format} cannot start: {self.log.last()}")
        self.checked = BufferSets(role, graph, _as_they_are)
        self.addresses: dict[str, int] = {}  # as the context knows them

    @cached_property
    def pinned(self) -> dict[str, NDArray[np.float32]]:
        """Where the buffers of the host are copied to; a frame that stays on the GPU needs none."""
        return {name: self.cuda.pinned(shape) for name, shape in self.checked.shapes.items()}

    @cached_property
    def on_gpu(self) -> dict[str, DeviceArray]:
        """Their twins on the GPU."""
        return {name: self.cuda.array(shape) for name, shape in self.checked.shapes.items()}

    def run(self, buffers: dict[str, NDArray[np.float32]]) -> None:
        buffers, stream = self.checked(buffers), self.cuda.stream
        with self.cuda.active():
            for name in self.graph.inputs:
                np.copyto(self.pinned[name], buffers[name])
                stream.upload(self.pinned[name], self.on_gpu[name])
            self.enqueue(self.on_gpu, stream)
            for name in self.graph.outputs:
                stream.download(self.on_gpu[name], self.pinned[name])
            stream.synchronize()
        for name in self.graph.outputs:
            np.copyto(buffers[name], self.pinned[name])

    def enqueue(self, arrays: Mapping[str, DeviceArray], stream: Stream) -> None:
        """See `TensorRtRuntime.enqueue`."""
        addresses = {name: array.pointer for name, array in arrays.items()}
        if addresses != self.addresses:
            check_device_arrays(self.role, self.graph, arrays)
            for name, address in addresses.items():
                self.context.set_tensor_address(name, address)
            self.addresses = addresses
        if not self.context.execute_async_v3(stream.handle):
            raise EngineError(f"graph '{self.role}': {self.graph.format} failed: {self.log.last()}")

    def capturable(self) -> bool:
        """Whether it can be captured: TensorRT-RTX knows (a kernel that it still compiles cannot), TensorRT shows it by failing."""
        knows = getattr(self.context, "is_stream_capturable", None)
        return knows is None or bool(knows(self.cuda.stream.handle))

    def compiled(self) -> bytes:
        """What was compiled for this GPU, none if nothing is."""
        return b"" if self.cache is None else bytes(self.cache.serialize())


def _start(engine: Any, cache: memoryview | None) -> tuple[Any, Any]:
    """Return the runtime cache of TensorRT-RTX (None for TensorRT) and a context.

    A cache of another driver or version is refused by its own header and compiled anew.
    """
    settings = engine.create_runtime_config() if hasattr(engine, "create_runtime_config") else None
    if settings is None or not hasattr(settings, "create_runtime_cache"):
        return None, engine.create_execution_context()
    compiled = settings.create_runtime_cache()
    if cache is not None:
        compiled.deserialize(cache)
    settings.set_runtime_cache(compiled)
    return compiled, engine.create_execution_context(settings)


def _as_they_are(buffers: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    return dict(buffers)


def _check_tensors(trt: Any, engine: Any, role: str, graph: Graph) -> None:
    """An engine is built from the ONNX beside it, but nothing in its bytes is proof of that."""
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = "input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output"
        found[name] = (kind, engine.get_tensor_dtype(name) == trt.float32, tuple(engine.get_tensor_shape(name)))
    stated = {name: ("input", True, tuple(shape)) for name, shape in graph.inputs.items()}
    stated |= {name: ("output", True, tuple(shape)) for name, shape in graph.outputs.items()}
    if found != stated:
        raise EngineError(f"graph '{role}': the engine has other inputs or outputs than the plan says; build it again")


@cache
def package(runtime: str) -> Any:
    """Import a flavour of TensorRT; MissingDependencyError with the command where it is not installed."""
    try:
        return import_module(runtime)
    except (ImportError, OSError) as exc:  # its loader raises OSError for a library that is not there
        extra = EXTRAS[runtime]
        raise MissingDependencyError(f"{runtime} cannot be imported ({exc}); pip install 'lad-edge[{extra}]'") from exc


@cache
def logger(runtime: str) -> Any:
    """Return the one logger of the process: TensorRT takes one, and its reasons stand nowhere else."""
    trt = package(runtime)

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps the last errors."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=4)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

        def last(self) -> str:
            return sentence(self.errors[-1]) if self.errors else "no reason given"

    return Log()


def sentence(text: str) -> str:
    """Return a message of several lines on one."""
    return " ".join(text.split())[:300] or "no reason given"
