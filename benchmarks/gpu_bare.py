"""The bare engine beside whole frames: all its graphs, one after the other, on arrays that nobody else touches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.gpu_step import NotHereError
from lad_edge.bundle import Graph
from lad_edge.runtime import Runtime


def bare(graphs: Mapping[str, Graph], runtime: Runtime, stack: ExitStack, *, captured: bool) -> Callable[[], None]:
    """Runs all graphs of an engine where it is; see `run_on_gpu`."""
    if getattr(runtime, "cuda", None) is None:
        return run_on_host(graphs, runtime)
    return run_on_gpu(graphs, runtime, stack, captured=captured)


def run_on_host(graphs: Mapping[str, Graph], runtime: Runtime) -> Callable[[], None]:
    """Runs all graphs of an engine of the CPU."""
    buffers = {role: {name: _random(shape) for name, shape in _shapes(graph)} for role, graph in graphs.items()}

    def run() -> None:
        for role, arrays in buffers.items():
            runtime.run(role, **arrays)

    return run


def run_on_gpu(graphs: Mapping[str, Graph], runtime: Any, stack: ExitStack, *, captured: bool) -> Callable[[], None]:
    """Runs all graphs of an engine of the GPU and waits for them. stack: closes what was captured. Raises NotHereError.

    captured: as one CUDA graph, or each as one where the runtime makes them itself.
    """
    cuda, stream = runtime.cuda, runtime.cuda.stream
    buffers = {
        role: {name: cuda.put(_random(shape)) for name, shape in _shapes(graph)} for role, graph in graphs.items()
    }

    def enqueue() -> None:
        for role, arrays in buffers.items():
            runtime.enqueue(role, stream, captured, **arrays)

    def run() -> None:
        with cuda.active():
            enqueue()
            stream.synchronize()

    if not captured or getattr(runtime, "records_itself", False):
        return run
    if runtime.cannot_capture():
        raise NotHereError(runtime.cannot_capture())
    run()  # kernels are loaded, and engines allocate
    with cuda.active(), stream.capture() as work:
        enqueue()
    stack.callback(buffers.clear)  # until then they are kept for the launches
    stack.callback(work.close)

    def launch() -> None:
        with cuda.active():
            work.launch()
            stream.synchronize()

    return launch


def _shapes(graph: Graph) -> Iterable[tuple[str, tuple[int, ...]]]:
    return {**graph.inputs, **graph.outputs}.items()


def _random(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros can be faster than what frames hold."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)
