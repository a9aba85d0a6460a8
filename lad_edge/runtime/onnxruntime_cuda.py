"""ONNX Runtime on an NVIDIA GPU: the GPU path where there is no TensorRT. Portable engine files run on it as they are."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from lad_edge.errors import EngineError, MissingDependencyError
from lad_edge.runtime.buffers import OpenGraphs
from lad_edge.runtime.gpu import find_gpus
from lad_edge.runtime.onnxruntime import Session, package, session_options

if TYPE_CHECKING:
    from lad_edge.runtime import Graphs

_PROVIDER = "CUDAExecutionProvider"
_SETTINGS = {
    "device_id": "0",
    "use_tf32": "0",  # it rounds f32 to the 11 bits of f16
    "cudnn_conv_use_max_workspace": "1",
    "arena_extend_strategy": "kSameAsRequested",
}
_REMEDY = (
    "if CUDA or cuDNN of the versions that it was built for do not load here: pip install 'lad-edge[onnxruntime-gpu]'"
)


def precisions() -> tuple[str, ...]:
    """Return f32: what the ONNX says. Raises EngineError without a GPU, MissingDependencyError without the CUDA provider."""
    if _PROVIDER not in package().get_available_providers():
        raise MissingDependencyError(
            "the installed ONNX Runtime has no CUDA; pip uninstall onnxruntime && pip install 'lad-edge[onnxruntime-gpu]'"
        )
    gpus = find_gpus()
    if not gpus.devices:
        raise EngineError(f"onnxruntime_cuda needs an NVIDIA GPU: {gpus.problem}; see 'lad-edge doctor'")
    return ("f32",)


def open_graphs(graphs: Graphs, precision: str, threads: int) -> OnnxRuntimeCuda:
    """Open graphs on the GPU; EngineError if one of them, or a part of one, would run on the CPU."""
    return OnnxRuntimeCuda(graphs, precision, threads)


class OnnxRuntimeCuda(OpenGraphs):
    """Graphs in sessions of the CUDA provider: host buffers go up and come down inside `run`."""

    name = "onnxruntime_cuda"

    def __init__(self, graphs: Graphs, precision: str, threads: int) -> None:
        self.version, self.precision, self.threads = str(package().__version__), precision, threads
        self.device = next((gpu.name for gpu in find_gpus().devices), "no GPU")
        _load_libraries()
        options = session_options(threads)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        opened = {
            role: Session(role, graph, data, options, [(_PROVIDER, _SETTINGS)], _REMEDY)
            for role, (graph, data) in graphs.items()
        }
        super().__init__(opened)
        for role, opened_one in opened.items():
            _check_provider(role, opened_one)


def _check_provider(role: str, opened: Session) -> None:
    """A provider that does not start is replaced by the CPU with no more than a line in the log."""
    opened.session.disable_fallback()
    found = opened.session.get_providers()
    if not found or found[0] != _PROVIDER:
        raise EngineError(
            f"graph '{role}': ONNX Runtime would run it on {', '.join(found)} instead of the GPU; {_REMEDY}"
        )


def _load_libraries() -> None:
    """Load CUDA and cuDNN from their pip packages where they are installed so; what is missing then is told on standard output."""
    preload = getattr(package(), "preload_dlls", None)  # since 1.21
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()
