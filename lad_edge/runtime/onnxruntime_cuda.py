"""ONNX Runtime on an NVIDIA GPU: the GPU path where there is no TensorRT. Portable engine files run on it as they are, in f32.

f16 stands in the networks, as for TensorRT: `lad-edge build --runtime onnxruntime_cuda --precision f16` writes a plan. Its sessions break
down, and the process with them, where somebody else captures their stream; so each records its own network as a CUDA graph.
"""

from __future__ import annotations

import contextlib
import io
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from lad_edge.errors import EngineError, MissingDependencyError
from lad_edge.runtime.buffers import OpenGraphs, opened_as
from lad_edge.runtime.cpu import physical_cores
from lad_edge.runtime.device import Cuda
from lad_edge.runtime.gpu import find_gpus
from lad_edge.runtime.identity import check_belongs_here
from lad_edge.runtime.onnxruntime import Session, package, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lad_edge.bundle import Device, Graph
    from lad_edge.runtime import Graphs
    from lad_edge.runtime.arrays import DeviceArray
    from lad_edge.runtime.device import Stream

_PROVIDER = "CUDAExecutionProvider"
_SETTINGS = {
    "device_id": "0",
    "use_tf32": "0",  # it rounds f32 to the 11 bits of f16
    "cudnn_conv_use_max_workspace": "1",
    "arena_extend_strategy": "kSameAsRequested",
}
_RECORDING = {"enable_cuda_graph": "1"}
_REMEDY = (
    "if CUDA or cuDNN of the versions that it was built for do not load here: pip install 'lad-edge[onnxruntime-gpu]'"
)


def precisions() -> tuple[str, ...]:
    """Return f32: what a portable file says. Raises EngineError without a GPU, MissingDependencyError without the CUDA provider."""
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


def open_plan(device: Device, graphs: Graphs, file: str) -> OnnxRuntimeCuda:
    """Open the networks of a plan, which were converted for it; EngineError where it was built for something else."""
    check_belongs_here(device, file)
    networks = {role: (replace(graph, format="onnx", source=None), data) for role, (graph, data) in graphs.items()}
    return OnnxRuntimeCuda(networks, device.precision, physical_cores())


class OnnxRuntimeCuda(OpenGraphs):
    """Graphs in sessions of the CUDA provider: host buffers go up and come down inside `run`.

    With pycuda they run on the stream of `cuda`, and `enqueue` runs them on arrays of the GPU; without it `cuda` is None.
    """

    name = "onnxruntime_cuda"

    def __init__(self, graphs: Graphs, precision: str, threads: int) -> None:
        self.version, self.precision, self.threads = str(package().__version__), precision, threads
        self.device = next((gpu.name for gpu in find_gpus().devices), "no GPU")
        _load_libraries()
        self.cuda = _open_cuda()
        with ExitStack() as if_it_fails:
            if_it_fails.callback(self.close)
            self.sessions = {role: self._open(role, graph, data) for role, (graph, data) in graphs.items()}
            if_it_fails.pop_all()
        super().__init__(self.sessions)

    def _open(self, role: str, graph: Graph, data: bytes | memoryview) -> Session:
        """With a CUDA graph if ONNX Runtime can make one of this network, else without."""
        try:
            return self._session(role, graph, data, _RECORDING)
        except EngineError as exc:
            opened = self._session(role, graph, data, {})
            opened.cannot_record = str(exc)
            return opened

    def _session(self, role: str, graph: Graph, data: bytes | memoryview, recording: Mapping[str, str]) -> Session:
        stream = {} if self.cuda is None else {"user_compute_stream": str(self.cuda.stream.handle), **recording}
        options = session_options(self.threads)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        session = Session(role, graph, data, options, [(_PROVIDER, _SETTINGS | stream)], _REMEDY)
        _check_provider(role, session)
        return session

    def enqueue(
        self, graph: str, _stream: Stream | None = None, recording: bool = False, /, **arrays: DeviceArray
    ) -> None:
        """As `TensorRtRuntime.enqueue`, on `cuda.stream` alone: a session keeps to the stream that it was opened with.

        recording: the network is a CUDA graph of its own from its second run on these arrays on.
        Raises EngineError where pycuda is missing.
        """
        if self.cuda is None:
            raise EngineError("arrays of the GPU need pycuda; pip install 'lad-edge[cuda]'")
        opened_as(graph, self.sessions).enqueue(arrays, recording=recording)

    @property
    def records_itself(self) -> bool:
        """Whether each network is a CUDA graph where its arrays come again."""
        return self.cuda is not None and not any(session.cannot_record for session in self.sessions.values())

    def cannot_capture(self) -> str:
        """Why a frame cannot be one CUDA graph here, and what each network is instead."""
        if self.records_itself:
            return "ONNX Runtime can only capture itself; each network is a CUDA graph of its own"
        reasons = (session.cannot_record for session in self.sessions.values())
        return f"ONNX Runtime makes none: {'; '.join(filter(None, reasons)) or 'pycuda is missing'}"

    def close(self) -> None:
        """Release the sessions, then the GPU."""
        super().close()
        self.sessions = {}
        if self.cuda is not None:
            self.cuda.close()


def _open_cuda() -> Cuda | None:
    try:
        return Cuda()
    except MissingDependencyError:
        return None


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
