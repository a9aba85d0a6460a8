"""ONNX Runtime on the CPU: the portable reference. What knows its API and its errors serves `onnxruntime_cuda.py` too."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from lad_edge.errors import EngineError, MissingDependencyError
from lad_edge.runtime.buffers import MAX_SETS, BufferSets, OpenGraphs, check_device_arrays, checked_onnx
from lad_edge.runtime.cpu import device_name, return_free_memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from lad_edge.bundle import Graph
    from lad_edge.runtime import Graphs
    from lad_edge.runtime.arrays import DeviceArray

_ERROR_LEVEL = 3
_NOT_RECORDED = -1  # as "gpu_graph_id": this run is no CUDA graph
_SAME_AS_REQUESTED = 1


@cache
def package() -> Any:
    """Import ONNX Runtime once; its memory arena grows by what is asked for, not by powers of two."""
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingDependencyError(
            f"ONNX Runtime cannot be imported ({exc}); pip install 'lad-edge[onnxruntime]'"
        ) from exc
    onnxruntime.set_default_logger_severity(_ERROR_LEVEL)
    onnxruntime.disable_telemetry_events()
    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    limits = {"max_mem": 0, "arena_extend_strategy": _SAME_AS_REQUESTED}
    limits |= {"initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}  # -1 and 0: the engine's own defaults
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place)
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(limits))
    return onnxruntime


def precisions() -> tuple[str, ...]:
    """Return f32: reduced precision on the CPU would need another ONNX file."""
    package()
    return ("f32",)


def open_graphs(graphs: Graphs, precision: str, threads: int) -> OnnxRuntime:
    """Compile graphs; EngineError if ONNX Runtime refuses one."""
    return OnnxRuntime(graphs, precision, threads)


class OnnxRuntime(OpenGraphs):
    """Graphs in ONNX Runtime sessions: `threads` threads a graph (its own pool, which sleeps between frames)."""

    name = "onnxruntime"

    def __init__(self, graphs: Graphs, precision: str, threads: int) -> None:
        self.version = str(package().__version__)
        self.precision, self.threads = precision, threads
        self.device = device_name()
        options = session_options(threads)
        opened = {
            role: Session(role, graph, data, options, ["CPUExecutionProvider"])
            for role, (graph, data) in graphs.items()
        }
        super().__init__(opened)


def session_options(threads: int) -> Any:
    """Return the settings that every session has."""
    options = package().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR_LEVEL
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # same latency, and the cores rest
    return options


class Session:
    """One graph and its session, on host buffers wherever it computes.

    providers: as ONNX Runtime takes them; remedy: what to do if it refuses the graph. cannot_record: why runs on a device are not recorded,
    known after the first one.
    """

    def __init__(
        self,
        role: str,
        graph: Graph,
        data: bytes | memoryview,
        options: Any,
        providers: Sequence[Any],
        remedy: str = "export it again",
    ) -> None:
        self.role, self.graph = role, graph
        onnx = checked_onnx(role, graph, data)
        try:
            self.session = package().InferenceSession(onnx, options, providers=providers)
        except _errors() as exc:
            raise EngineError(f"graph '{role}': ONNX Runtime cannot load it: {_first_line(exc)}; {remedy}") from exc
        return_free_memory()
        self.binding_for = BufferSets(role, graph, self._bind)
        self.on_device: dict[tuple[int, ...], tuple[Any, Any]] = {}  # by addresses: binding, options of a recorded run
        self.recordings = 0
        self.cannot_record = ""

    def run(self, buffers: dict[str, NDArray[np.float32]]) -> None:
        """Run it on a set of buffers; see `lad_edge.runtime.Runtime.run`."""
        self._run(self.binding_for(buffers), _options(_NOT_RECORDED))

    def enqueue(self, arrays: Mapping[str, DeviceArray], device: str = "cuda", *, recording: bool = False) -> None:
        """Run it on arrays of a device, on the provider's stream, without waiting for it.

        recording: the first run on these arrays is recorded and the others are replayed, where the session was opened for that. A session
        that cannot record after all goes on without.
        """
        addresses = tuple(array.pointer for array in arrays.values())
        if addresses not in self.on_device:
            self._bind_on_device(addresses, arrays, device)
        binding, recorded = self.on_device[addresses]
        if recording and not self.cannot_record:
            try:
                self._run(binding, recorded)
                return
            except EngineError as exc:
                self.cannot_record = str(exc)
        self._run(binding, _options(_NOT_RECORDED, wait=False))

    def _run(self, binding: Any, options: Any) -> None:
        try:
            self.session.run_with_iobinding(binding, options)
        except _errors() as exc:
            raise EngineError(f"graph '{self.role}': ONNX Runtime failed: {_first_line(exc)}") from exc

    def _bind_on_device(self, addresses: tuple[int, ...], arrays: Mapping[str, DeviceArray], device: str) -> None:
        """A recording belongs to its addresses: each set of arrays has a number of its own. Sets after the first ones are not recorded."""
        check_device_arrays(self.role, self.graph, arrays)
        binding = self.session.io_binding()
        for name, array in arrays.items():
            bind = binding.bind_input if name in self.graph.inputs else binding.bind_output
            bind(name, device, 0, array.dtype.type, array.shape, array.pointer)
        self.recordings += 1
        number = self.recordings if self.recordings <= MAX_SETS else _NOT_RECORDED
        if len(self.on_device) >= MAX_SETS:
            del self.on_device[next(iter(self.on_device))]
        self.on_device[addresses] = binding, _options(number, wait=False)

    def _bind(self, buffers: Mapping[str, NDArray[np.float32]]) -> Any:
        """Bind raw pointers: `BufferSets` keeps the arrays alive."""
        binding = self.session.io_binding()
        for name, buffer in buffers.items():
            bind = binding.bind_input if name in self.graph.inputs else binding.bind_output
            bind(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)
        return binding


@cache
def _options(recording: int, *, wait: bool = True) -> Any:
    """Options of a run. recording: number of the CUDA graph that it is, if the session records any; wait: until it is done."""
    options = package().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(recording))
    options.add_run_config_entry("disable_synchronize_execution_providers", "0" if wait else "1")
    return options


@cache
def _errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of ONNX Runtime, which share no base; the binding raises RuntimeError."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (RuntimeError, ValueError, *own)


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or ["no reason given"])[0][:300]
