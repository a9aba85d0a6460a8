"""Networks and buffers go in, filled buffers come out: one engine behind one verb, `run(graph, **buffers)`.

Each engine has one file, imported when it is used. The engine's own thread pool (`threads` threads, by default one
for each physical core that this process may use) is the only one: kernels beside it are single-threaded.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Protocol

from lad_edge.bundle import ENGINES
from lad_edge.errors import EngineError, MissingDependencyError, UsageError
from lad_edge.runtime.cpu import physical_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from lad_edge.bundle import Device, Graph

    Graphs = Mapping[str, tuple[Graph, bytes | memoryview]]

__all__ = [
    "RUNTIMES",
    "Runtime",
    "available",
    "default_runtime",
    "open_plan",
    "open_runtime",
    "preferred_precision",
    "stated",
]

_FASTEST_FIRST = ("int8", "bf16", "f16", "f32")


class Runtime(Protocol):
    """Compiled graphs, ready to run. Used by one thread at a time.

    name: a key of RUNTIMES, or that of a plan; version: of the engine; precision: the one that it executes; device: in words;
    threads: size of its pool.
    """

    name: str
    version: str
    precision: str
    device: str
    threads: int

    def run(self, graph: str, **buffers: NDArray[np.float32]) -> None:
        """Run one graph: inputs are read from and outputs written into the buffers, which stay the caller's.

        Buffers are C-contiguous, writeable float32 of exactly the graph's shapes, one for each input and output, by name; the
        engine uses their memory directly. A set of buffers is bound when it is first seen; afterwards nothing is copied
        or allocated. Raises EngineError for a wrong name, shape, type or layout, and when the engine fails.
        """
        ...

    def close(self) -> None:
        """Release the engine; `run` raises EngineError afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Engine(Protocol):
    """What each engine's file has: how to open it, and at which precisions it runs natively on this machine."""

    def open_graphs(self, graphs: Graphs, precision: str, threads: int) -> Runtime:
        """Compile the graphs."""
        ...

    def precisions(self) -> tuple[str, ...]:
        """Return the precisions that this machine executes natively."""
        ...


def _openvino() -> Engine:
    from lad_edge.runtime import openvino

    return openvino


def _onnxruntime() -> Engine:
    from lad_edge.runtime import onnxruntime

    return onnxruntime


def _onnxruntime_cuda() -> Engine:
    from lad_edge.runtime import onnxruntime_cuda

    return onnxruntime_cuda


RUNTIMES: dict[str, Callable[[], Engine]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "onnxruntime_cuda": _onnxruntime_cuda,
}


def open_runtime(
    name: str | None, graphs: Graphs, *, precision: str | None = None, threads: int | None = None
) -> Runtime:
    """Compile graphs with an engine.

    name: a key of RUNTIMES, None = `default_runtime()`. graphs: role → (Graph, ONNX bytes), as `Bundle.graphs()` gives.
    precision: None = the fastest that runs natively here; with a bundle, pass one that it is calibrated for
    (`preferred_precision(name, among=bundle.manifest.calibrations)`). threads: None = one for each physical core.

    Raises UsageError (unknown name, bad thread count), MissingDependencyError (package not installed) and EngineError
    (precision not native here, or graphs that the engine refuses). There is no silent fallback.
    """
    name = name or default_runtime()
    precision = precision or preferred_precision(name)
    check_runtime(name, precision)
    return _engine(name).open_graphs(graphs, precision, _checked_threads(threads))


def check_runtime(name: str | None, precision: str | None) -> None:
    """Raise as `open_runtime` does for an engine or a precision that this machine does not have; nothing is compiled."""
    name = name or default_runtime()
    native = _engine(name).precisions()
    if precision is not None and precision not in native:
        raise EngineError(
            f"{name} does not run {precision} natively on this machine, only {', '.join(native)}; "
            f"choose one of these, or export for it"
        )


def open_plan(
    device: Device,
    graphs: Graphs,
    caches: Mapping[str, memoryview],
    *,
    file: str,
    runtime: str | None = None,
    precision: str | None = None,
) -> Runtime:
    """Open the engines of a plan on the GPU that they were built for.

    device, graphs, caches: of the bundle, which has checked their hashes; file: its name, for errors. runtime, precision: what the user
    asks for; None = as it was built. Raises UsageError if the plan was built for other ones, EngineError if it cannot run here, in words
    that say what was built where, and MissingDependencyError.
    """
    check_plan(device, file, runtime, precision)
    if device.runtime == "onnxruntime_cuda":
        from lad_edge.runtime import onnxruntime_cuda

        return onnxruntime_cuda.open_plan(device, graphs, file)
    from lad_edge.runtime import tensorrt

    return tensorrt.open_plan(device, graphs, caches, file)


def check_plan(device: Device, file: str, runtime: str | None, precision: str | None) -> None:
    """Raise UsageError if a plan was built for something else than what the user asks for; arguments as of `open_plan`."""
    for flag, asked, built in (("runtime", runtime, device.runtime), ("precision", precision, device.precision)):
        if asked not in (None, built):
            raise UsageError(
                f"--{flag} {asked}: {file} was built for {built}; leave the flag out, or build another plan with it"
            )


def available() -> dict[str, tuple[str, ...]]:
    """Return what can run here: engine → precisions that this machine executes natively."""
    return {name: found for name in RUNTIMES if (found := _installed(name))}


def default_runtime() -> str:
    """Return OpenVINO on x86-64 and ONNX Runtime elsewhere, or the other one where only that is installed."""
    order = ("openvino", "onnxruntime") if platform.machine() in ("x86_64", "AMD64") else ("onnxruntime", "openvino")
    for name in order:
        if _installed(name):
            return name
    raise MissingDependencyError(f"no inference engine is installed; pip install 'lad-edge[{order[0]}]'")


def preferred_precision(name: str | None = None, among: Iterable[str] | None = None) -> str:
    """Return the fastest precision that an engine runs natively here, out of `among` (None = any).

    Raises EngineError when none of `among` is native here.
    """
    name = name or default_runtime()
    native = _engine(name).precisions()
    wanted = _FASTEST_FIRST if among is None else tuple(among)
    for precision in _FASTEST_FIRST:
        if precision in native and precision in wanted:
            return precision
    raise EngineError(
        f"{name} runs {', '.join(native)} on this machine, the bundle is calibrated for {', '.join(wanted)}; "
        f"export it again with --precision {native[0]}"
    )


def stated(runtime: Runtime) -> str:
    """Name and version of an engine as a bundle states them: letters, digits, dots and underscores."""
    version = "".join(c if c.isalnum() or c in "._" else "-" for c in runtime.version.split("-")[0])
    return f"{runtime.name}-{version[:32]}"


def _installed(name: str) -> tuple[str, ...] | None:
    """Return the precisions of an engine; None if its package is not installed or finds nothing to run on."""
    try:
        return _engine(name).precisions()
    except (MissingDependencyError, EngineError):
        return None


def _engine(name: str) -> Engine:
    if name in ENGINES and name not in RUNTIMES:
        raise EngineError(
            f"{name} runs plans: make one for its GPU with 'lad-edge build X.lad -o X.plan --runtime {name}'"
        )
    if name not in RUNTIMES:
        raise UsageError(f"runtime '{name}' is not known; choose one of {', '.join(RUNTIMES)}")
    return RUNTIMES[name]()


def _checked_threads(threads: int | None) -> int:
    if threads is None:
        return physical_cores()
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise UsageError(f"threads: expected an integer from 1 to 1024, came {threads!r}")
    return threads
