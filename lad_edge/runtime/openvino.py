"""OpenVINO on the CPU. The only file that knows its API and its errors."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from lad_edge.errors import EngineError, MissingDependencyError
from lad_edge.runtime.buffers import BufferSets, OpenGraphs, checked_onnx
from lad_edge.runtime.cpu import has_native_bf16, return_free_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from lad_edge.bundle import Graph
    from lad_edge.runtime import Graphs

_CONVERTER = "openvino.tools.ovc"
_EXECUTED = {"f32": "f32", "bf16": "bf16"}  # our names → OpenVINO's

_Binding = list[tuple[str, Any]]  # tensor name, openvino.Tensor over the caller's memory


@cache
def _openvino() -> Any:
    """Import OpenVINO without its model converter, which an engine does not need and which reports each import home.

    `import openvino` goes on without the converter when that cannot be imported; it saves 70 of 115 ms. The converter
    stays importable afterwards by its own name.
    """
    blocked = _CONVERTER not in sys.modules and "openvino" not in sys.modules
    if blocked:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as exc:
        raise MissingDependencyError(f"OpenVINO cannot be imported ({exc}); pip install 'lad-edge[openvino]'") from exc
    finally:
        if blocked:
            del sys.modules[_CONVERTER]
    return openvino


@cache
def _core() -> Any:
    return _openvino().Core()


def precisions() -> tuple[str, ...]:
    """Return f32, and bf16 where OpenVINO reports it and the CPU has the instructions."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("f32", "bf16") if "BF16" in capabilities and has_native_bf16() else ("f32",)


def open_graphs(graphs: Graphs, precision: str, threads: int) -> OpenVinoRuntime:
    """Compile graphs; EngineError if OpenVINO refuses one or would execute it at another precision."""
    return OpenVinoRuntime(graphs, precision, threads)


class OpenVinoRuntime(OpenGraphs):
    """Graphs compiled by OpenVINO: one stream, `threads` threads (its TBB pool), not pinned, lowest latency."""

    name = "openvino"

    def __init__(self, graphs: Graphs, precision: str, threads: int) -> None:
        self.version = str(_openvino().__version__).split("-", 1)[0]
        self.precision, self.threads = precision, threads
        self.device = str(_core().get_property("CPU", "FULL_DEVICE_NAME")).strip()
        opened = {role: _Compiled(role, graph, data, precision, threads) for role, (graph, data) in graphs.items()}
        super().__init__(opened)


class _Compiled:
    """One graph and its one infer request."""

    def __init__(self, role: str, graph: Graph, data: bytes | memoryview, precision: str, threads: int) -> None:
        self.role = role
        model = _read(role, checked_onnx(role, graph, data))  # the bytes are gone before compiling takes its memory
        own = precision if graph.precision == "any" else graph.precision
        self.request = _compile(role, model, own, threads).create_infer_request()
        return_free_memory()
        self.binding_for = BufferSets(role, graph, _bind)
        self.bound: _Binding | None = None

    def run(self, buffers: dict[str, NDArray[np.float32]]) -> None:
        binding = self.binding_for(buffers)
        try:
            if binding is not self.bound:
                for name, tensor in binding:
                    self.request.set_tensor(name, tensor)
                self.bound = binding
            self.request.infer(share_outputs=True)  # without it each result is copied once more
        except RuntimeError as exc:
            self.bound = None
            raise EngineError(f"graph '{self.role}': OpenVINO failed: {_sentence(exc)}") from exc


def _read(role: str, data: bytes) -> Any:
    try:
        model = _core().read_model(data)
    except RuntimeError as exc:
        raise EngineError(f"graph '{role}': OpenVINO cannot read it: {_sentence(exc)}; export it again") from exc
    return_free_memory()
    return model


def _compile(role: str, model: Any, precision: str, threads: int) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": _EXECUTED[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # the caller owns its cores; capture and decoding run beside the engine
    }
    try:
        compiled = _core().compile_model(model, "CPU", settings)
        executed = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    except RuntimeError as exc:
        raise EngineError(f"graph '{role}': OpenVINO cannot compile it: {_sentence(exc)}; export it again") from exc
    if executed != _EXECUTED[precision]:  # asked for f16, OpenVINO takes bf16 and says so only here
        raise EngineError(f"graph '{role}': OpenVINO would run {executed} instead of {precision}; choose that or f32")
    return compiled


def _bind(buffers: Mapping[str, NDArray[np.float32]]) -> _Binding:
    return [(name, _openvino().Tensor(buffer, shared_memory=True)) for name, buffer in buffers.items()]


def _sentence(exc: BaseException) -> str:
    """Return an OpenVINO error on one line, without its 'Exception from file:line' lines."""
    lines = [line.strip() for line in str(exc).splitlines()]
    useful = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(useful)[:300] or "no reason given"
