"""The bare engine that a GPU is measured with, on the GPU of the tests: all graphs of an engine, one after the other or as one capture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from queued_gpu import QueuedGpu, QueuedRuntime

from benchmarks.gpu_frames import run_on_gpu
from benchmarks.gpu_step import NotHereError
from lad_edge import bundle
from lad_edge.runtime import open_runtime


@pytest.fixture
def opened(tiny_bundle: Path) -> bundle.Bundle:
    return bundle.read(tiny_bundle)


@pytest.fixture
def runtime(opened: bundle.Bundle) -> Iterator[QueuedRuntime]:
    with open_runtime(None, opened.graphs(), precision="f32", threads=1) as engine:
        yield QueuedRuntime(QueuedGpu(), engine)


def test_graphs_are_enqueued_and_waited_for(opened: bundle.Bundle, runtime: QueuedRuntime) -> None:
    with ExitStack() as stack:
        run_on_gpu(opened.manifest.graphs, runtime, stack, captured=False)()
    assert runtime.cuda.calls == ["detector", "synchronize"]


def test_what_was_captured_computes_at_each_launch(opened: bundle.Bundle, runtime: QueuedRuntime) -> None:
    with ExitStack() as stack:
        launch = run_on_gpu(opened.manifest.graphs, runtime, stack, captured=True)
        arrays = runtime.views
        (maps,) = (values for (_, shape), values in arrays.items() if shape == (1, 2, 8, 8))
        expected = maps.copy()
        maps.fill(7)
        runtime.cuda.calls.clear()
        launch()
        launch()
    assert runtime.cuda.calls == ["launch", "synchronize"] * 2
    assert (maps == expected).all()


def test_a_runtime_that_cannot_be_captured_says_why(opened: bundle.Bundle, runtime: QueuedRuntime) -> None:
    runtime.refuses = "it allocates"
    with ExitStack() as stack, pytest.raises(NotHereError, match="it allocates"):
        run_on_gpu(opened.manifest.graphs, runtime, stack, captured=True)
