"""The trials of `lad-edge doctor` on NVIDIA GPUs: what there is, which engines really run, and what slows them down."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.cli.trial import Finding, trial_finding, trial_graph
from lad_edge.errors import EngineError, LadEdgeError, MissingDependencyError, UsageError
from lad_edge.runtime.gpu import find_gpus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lad_edge.bundle import Graph

_ELSEWHERE = "sm_89"  # TensorRT-RTX builds without a GPU: its trial then is an engine for another machine
_QUERY = "persistence_mode,clocks.sm,clocks.max.sm,power.limit,power.max_limit"
_WAIT_S = 10
_REMEDY = "pip install 'lad-edge[cuda]'; plans do not run without it"


def check_gpus() -> Iterator[Finding]:
    """GPUs with their driver; a machine without one runs engines on its CPU."""
    gpus = find_gpus()
    if gpus.broken:
        yield Finding("gpu", "warn", gpus.problem, "engines run on the CPU until then")
    elif not gpus.devices:
        yield Finding("gpu", "ok", f"none: {gpus.problem}; engines run on the CPU")
    for gpu in gpus.devices:
        memory = f"{gpu.memory_bytes / 2**30:.0f} GiB"
        yield Finding("gpu", "ok", f"{gpu.name}, compute capability {gpu.compute_capability}, {memory}")
    if gpus.devices:
        yield Finding("gpu driver", "ok", f"{gpus.driver or 'version unknown'}, runs CUDA up to {gpus.cuda}")
        yield _check_pycuda()
        yield from check_power()
    yield _check_kernels()


def check_tensorrt() -> Iterator[Finding]:
    """Each flavour builds a small engine, which computes where there is a GPU."""
    from lad_edge.runtime.compiler import installed
    from lad_edge.runtime.tensorrt import EXTRAS

    for runtime in EXTRAS:
        command = f"pip install 'lad-edge[{runtime.replace('_', '-')}]'"
        if runtime in installed():
            yield _guarded(runtime, command.replace("install", "install --force-reinstall"))
        else:
            yield Finding(runtime, "ok", f"not installed (optional: {command})")


def check_power() -> Iterator[Finding]:
    """What makes a GPU slow or slow to wake, as nvidia-smi (desktop, server) and nvpmodel (Jetson) tell it."""
    for index, line in enumerate(_output("nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits")):
        yield from _power_of(index, [word.strip() for word in line.split(",")])
    mode = next((line.split(":")[1].strip() for line in _output("nvpmodel", "-q") if "Power Mode:" in line), None)
    if mode is not None:
        full = mode.startswith("MAXN")
        remedy = "" if full else "sudo nvpmodel -m 0 (see 'nvpmodel -p --verbose' for MAXN), then sudo jetson_clocks"
        yield Finding("gpu power", "ok" if full else "warn", f"power mode {mode}", remedy)


def _power_of(index: int, words: Sequence[str]) -> Iterator[Finding]:
    """One line of nvidia-smi: what a GPU does not have is "[N/A]"."""
    if len(words) != len(_QUERY.split(",")):
        return
    persistence, clock, fastest, limit, most = words
    where = f"GPU {index}: "
    if persistence == "Disabled":
        remedy = f"sudo nvidia-smi -i {index} -pm 1"
        yield Finding("gpu power", "warn", where + "the driver unloads while nobody uses it: slow starts", remedy)
    if _number(limit) < _number(most):
        detail = f"{where}limited to {limit} W of {most} W"
        yield Finding("gpu power", "warn", detail, f"sudo nvidia-smi -i {index} -pl {int(_number(most))}")
    steady = f"; sudo nvidia-smi -i {index} -lgc {fastest} keeps it there" if _number(clock) < _number(fastest) else ""
    yield Finding("gpu clock", "ok", f"{where}{clock} of {fastest} MHz now, it rises under load{steady}")


def _guarded(runtime: str, remedy: str) -> Finding:
    try:
        return _try_tensorrt(runtime, remedy)
    except MissingDependencyError as exc:
        return Finding(runtime, "warn", str(exc), _REMEDY)
    except UsageError as exc:  # another flavour, or ONNX Runtime, runs on this GPU
        return Finding(runtime, "warn", str(exc), "pip install 'lad-edge[tensorrt]' or 'lad-edge[onnxruntime-gpu]'")
    except LadEdgeError as exc:
        return Finding(runtime, "fail", str(exc), remedy)


def _try_tensorrt(runtime: str, remedy: str) -> Finding:
    from lad_edge.runtime import open_plan
    from lad_edge.runtime.compiler import choose_target, compile_graph
    from lad_edge.runtime.identity import engine_version, identity

    found, gpus, start_ns = engine_version(runtime), find_gpus(), time.monotonic_ns()
    if not gpus.devices and runtime == "tensorrt":
        return Finding(runtime, "ok", f"{found}; builds and runs engines on a GPU only")
    target = choose_target(runtime, () if gpus.devices else (_ELSEWHERE,))
    graph, onnx = trial_graph()
    engine = compile_graph(target, "trial", graph, onnx)
    took = f"{(time.monotonic_ns() - start_ns) / 1e6:.0f} ms"
    if not gpus.devices:
        return Finding(runtime, "ok", f"{found}: builds engines for other machines, a small one in {took}")
    device = identity(target, "f32", "0" * 64, gpus)
    graphs = {"trial": (replace(graph, format=runtime, source="onnx/trial"), engine)}
    with open_plan(device, graphs, {}, file="trial") as plan:
        return trial_finding(plan, time.monotonic_ns(), remedy, f", built in {took}; {capture_note(plan, graph)}")


def capture_note(plan: Any, graph: Graph) -> str:
    """Whether the trial network of an open plan runs as a CUDA graph, in words; after one run without, as frames do it."""
    arrays = {name: plan.cuda.array(shape) for name, shape in {**graph.inputs, **graph.outputs}.items()}
    stream = plan.cuda.stream
    try:
        with plan.cuda.active():
            plan.enqueue("trial", stream, **arrays)
            stream.synchronize()
            with stream.capture() as work:
                plan.enqueue("trial", stream, **arrays)
            work.launch()
            stream.synchronize()
            work.close()
    except EngineError as exc:
        return f"no CUDA graph ({exc})"
    return "runs as a CUDA graph"


def _check_pycuda() -> Finding:
    from lad_edge.runtime.device import Cuda

    try:
        Cuda().close()
    except LadEdgeError as exc:
        return Finding("pycuda", "warn", str(exc), _REMEDY)
    return Finding("pycuda", "ok", "opens the GPU")


def _check_kernels() -> Finding:
    rebuild = "rebuild from source on this machine: LAD_EDGE_CUDA=1 pip install --force-reinstall --no-deps ."
    try:
        from lad_edge.kernels.cuda import device_names
    except MissingDependencyError:
        return Finding(
            "cuda kernels", "ok", "not part of this installation (optional: rebuild it with LAD_EDGE_CUDA=1)"
        )
    names = ", ".join(device_names())
    if not names:
        return Finding("cuda kernels", "ok", "compiled; no GPU to run them")
    try:
        wrong = _try_kernel()
    except MissingDependencyError:
        return Finding("cuda kernels", "ok", f"compiled; {names}; tried as soon as pycuda is there")
    except (LadEdgeError, RuntimeError) as exc:  # such as code for other GPUs only
        return Finding("cuda kernels", "fail", f"{names}: {exc}", rebuild)
    return (
        Finding("cuda kernels", "fail", wrong, rebuild) if wrong else Finding("cuda kernels", "ok", f"run on {names}")
    )


def _try_kernel() -> str:
    """Let the GPU count two values that are not finite; what is wrong with its answer, or nothing."""
    from lad_edge.kernels.cuda import count_nonfinite
    from lad_edge.runtime.device import Cuda

    with Cuda() as cuda:
        values, count = cuda.pinned((1000,)), cuda.pinned((1,), np.int64)
        values[[3, 999]] = np.nan, np.inf
        on_gpu = cuda.array(values.shape), cuda.array(count.shape, np.int64)
        with cuda.active():
            for source, target in zip((values, count), on_gpu, strict=True):
                cuda.stream.upload(source, target)
            count_nonfinite(on_gpu[0], nonfinite=on_gpu[1], stream=cuda.stream.handle)
            cuda.stream.download(on_gpu[1], count)
            cuda.stream.synchronize()
            found = int(count[0])
            del values, count, on_gpu, source, target  # before the context goes
    return "" if found == 2 else f"a kernel counted {found} values that are not finite, expected 2"


def _output(*words: str) -> list[str]:
    """Lines of a tool's output; none where it is not installed or fails."""
    path = shutil.which(words[0])
    if path is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603 - a tool of the driver, found on PATH, with fixed words
            [path, *words[1:]], capture_output=True, text=True, timeout=_WAIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _number(word: str) -> float:
    """A number; 0 for "[N/A]", so that nothing is compared with it."""
    try:
        return float(word)
    except ValueError:
        return 0.0
