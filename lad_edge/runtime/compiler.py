"""ONNX → engine, by TensorRT or TensorRT-RTX: strongly typed networks of fixed shape, with progress.

`tensorrt` builds for the GPU that it runs on; `tensorrt_rtx` builds for any RTX GPU, on a machine without one too. `onnxruntime_cuda`
compiles when it opens a network: its engine is the network itself, in the precision that stands in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lad_edge.errors import EngineError, MissingDependencyError, UsageError
from lad_edge.runtime import onnxruntime_cuda
from lad_edge.runtime.buffers import checked_onnx
from lad_edge.runtime.gpu import find_gpus
from lad_edge.runtime.identity import engine_version
from lad_edge.runtime.tensorrt import EXTRAS, logger, package, sentence
from lad_edge.runtime.timings import Timings

if TYPE_CHECKING:
    from pathlib import Path

    from lad_edge.bundle import Graph

PRECISIONS = ("f32", "f16")  # of the ONNX that is compiled; strongly typed engines have no flag for it

Progress = Callable[[str, float], None]  # phase, share of the whole that is done


@dataclass(frozen=True)
class Target:
    """Where engines will run. runtime: one of `bundle.ENGINES`; compute_capabilities: such as ("8.6", "8.9")."""

    runtime: str
    compute_capabilities: tuple[str, ...]


def choose_target(runtime: str | None, cross: Sequence[str] = ()) -> Target:
    """Return what to build for: the GPUs of `cross`, such as ("sm_89",), else the GPU of this machine.

    runtime: None = TensorRT-RTX for `cross`, else the installed one, TensorRT first. Raises UsageError for a GPU that the
    runtime cannot build for, EngineError where there is no GPU to build for, and MissingDependencyError.
    """
    runtime = runtime or ("tensorrt_rtx" if cross else _first_installed())
    if cross and runtime != "tensorrt_rtx":
        who = "TensorRT" if runtime == "tensorrt" else "ONNX Runtime"
        raise UsageError(f"--cross: {who} builds on the GPU itself; only --runtime tensorrt_rtx builds for another one")
    if runtime == "onnxruntime_cuda":
        onnxruntime_cuda.precisions()  # raises where it has no GPU
    else:
        package(runtime)
    found = tuple(_compute_capability(name) for name in cross) or (_local_gpu(),)
    if runtime == "tensorrt_rtx":
        for capability in found:
            _check_supported(capability)
    return Target(runtime, found)


def installed() -> tuple[str, ...]:
    """Return the flavours that can be imported here, TensorRT first."""
    return tuple(runtime for runtime in EXTRAS if _imports(runtime))


def _imports(runtime: str) -> bool:
    try:
        package(runtime)
    except MissingDependencyError:
        return False
    return True


def open_timings(path: Path, target: Target) -> Timings | None:
    """Return what was measured for the target so far, and where it is kept; None where the runtime measures nothing."""
    if target.runtime != "tensorrt":
        return None
    gpus = find_gpus().devices
    return Timings(path, f"tensorrt {engine_version('tensorrt')} on {gpus[0].name if gpus else 'no GPU'}")


def compile_graph(
    target: Target,
    role: str,
    graph: Graph,
    onnx: bytes | memoryview,
    progress: Progress | None = None,
    timings: Timings | None = None,
) -> bytes:
    """Compile one network of ONNX bytes and return the engine's bytes.

    graph: what the ONNX is; f16 or f32 as the ONNX says it, TF32 never. progress: called at each step of the builder. timings: of earlier
    builds, which take less time then; what is measured is added.
    Raises EngineError for ONNX that TensorRT does not read or cannot compile.
    """
    if target.runtime == "onnxruntime_cuda":
        return checked_onnx(role, graph, onnx)
    trt, log = package(target.runtime), logger(target.runtime)
    builder = _builder(trt, log)
    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(checked_onnx(role, graph, onnx)):
        raise EngineError(f"graph '{role}': {target.runtime} cannot read it: {_reasons(parser)}; export it again")
    config = _configure(trt, builder, target)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    if timings is not None:
        _use_timings(config, timings)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError(f"graph '{role}': {target.runtime} cannot compile it: {log.last()}")
    if timings is not None:
        timings.data = bytes(config.get_timing_cache().serialize())
    return bytes(engine)


def _first_installed() -> str:
    found = installed()
    if not found:
        raise MissingDependencyError(
            "neither TensorRT nor TensorRT-RTX is installed; pip install 'lad-edge[tensorrt-rtx]' (RTX GPUs) or "
            "'lad-edge[tensorrt]' (data-centre GPUs; a Jetson has it in JetPack), or build with --runtime onnxruntime_cuda"
        )
    return found[0]


def _local_gpu() -> str:
    gpus = find_gpus()
    if not gpus.devices:
        raise EngineError(
            f"{gpus.problem}: there is no GPU to build for; run 'lad-edge build' on the machine with the GPU, or name "
            "its architecture: --runtime tensorrt_rtx --cross sm_89"
        )
    return gpus.devices[0].compute_capability


def _compute_capability(name: str) -> str:
    """`sm_89` or `8.9` → "8.9"."""
    digits = name.removeprefix("sm_").replace(".", "")
    if not digits.isdecimal() or not 2 <= len(digits) <= 3:
        raise UsageError(f"--cross: an architecture is written sm_89; came '{name}'")
    return f"{digits[:-1]}.{digits[-1]}"


def _check_supported(capability: str) -> None:
    known = package("tensorrt_rtx").ComputeCapability.__members__
    if "SM" + capability.replace(".", "") not in known:
        names = ", ".join(sorted(f"sm_{name[2:]}" for name in known if name[2:].isdecimal()))
        raise UsageError(
            f"TensorRT-RTX {engine_version('tensorrt_rtx')} does not build for compute capability {capability}, only for {names}; "
            "build on that GPU with --runtime tensorrt, or there with --runtime onnxruntime_cuda --precision f16, which runs the portable "
            "file in f32 too"
        )


def _builder(trt: Any, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except (RuntimeError, TypeError) as exc:  # a factory that returns nothing is a TypeError in pybind11
        raise EngineError(f"{trt.__name__} does not start: {log.last()}; check 'lad-edge doctor'") from exc


def _creation_flags(trt: Any) -> int:
    """Types follow the ONNX: the only mode of 11.x, a flag of 10.x."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _reasons(parser: Any) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return sentence("; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors))


def _configure(trt: Any, builder: Any, target: Target) -> Any:
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # it rounds f32 to the 11 bits of f16: who wants that says f16
    if target.runtime == "tensorrt_rtx":
        config.num_compute_capabilities = len(target.compute_capabilities)
        for index, capability in enumerate(target.compute_capabilities):
            config.set_compute_capability(trt.ComputeCapability.__members__["SM" + capability.replace(".", "")], index)
    return config


def _use_timings(config: Any, timings: Timings) -> None:
    """TensorRT refuses what another GPU or version measured by its own header; then it begins with none."""
    cache = config.create_timing_cache(timings.data)
    if cache is None or not config.set_timing_cache(cache, False):
        timings.leave_aside("TensorRT refuses it")
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Phases lie in each other; a step of an outer one counts for as much as all steps of the one inside it."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, list[int]] = {}  # name → steps done, steps, from the outermost

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = [0, max(num_steps, 1)]

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.phases[phase_name][0] = step + 1
            progress(phase_name, self.share())
            return True

        def phase_finish(self, phase_name: str) -> None:
            del self.phases[phase_name]

        def share(self) -> float:
            share = 0.0
            for done, steps in reversed(self.phases.values()):
                share = min((done + share) / steps, 1.0)
            return share

    return Monitor()
