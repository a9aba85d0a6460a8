"""The bare engine that a GPU is measured with, on the GPU of the tests: all graphs of an engine, one after the other or as one capture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from queued_gpu import QueuedGpu, QueuedRuntime

from benchmarks.gpu_bare import run_on_gpu
from benchmarks.gpu_engines import NAMES
from benchmarks.gpu_frames import ways
from benchmarks.gpu_plans import plan_file
from benchmarks.gpu_step import NotHereError, Place
from lad_edge import bundle
from lad_edge.runtime import open_runtime


@pytest.fixture
def opened(tiny_bundle: Path) -> bundle.Bundle:
    return bundle.read(tiny_bundle)


@pytest.fixture
def runtime(opened: bundle.Bundle) -> Iterator[QueuedRuntime]:
    with open_runtime(None, opened.graphs(), precision="f32", threads=1) as engine:
        yield QueuedRuntime(QueuedGpu(), engine)


def test_the_headline_is_measured_first_then_the_best_way_of_every_other_engine(tmp_path: Path) -> None:
    first, second, *others = NAMES
    plans = [plan_file(name, "onnxruntime_cuda", "f16", tmp_path) for name in NAMES]
    plans.append(plan_file(first, "tensorrt_rtx", "f32", tmp_path))
    for plan in plans:
        plan.parent.mkdir(exist_ok=True)
        plan.touch()
    found = list(ways(Place(tmp_path / "x.json", tmp_path, rehearse=False)))
    names = [file.name for file, _ in found]
    assert names[:3] == [f"{first}.onnxruntime_cuda.f16.plan", f"{first}.tensorrt_rtx.f32.plan", f"{first}.lad"]
    assert names[3 : 4 + len(others)] == [f"{name}.onnxruntime_cuda.f16.plan" for name in (second, *others)]
    assert names[4 + len(others) :] == [f"{name}.lad" for name in (second, *others)]
    assert [paused for _, paused in found] == [True] + [False] * (len(found) - 1)


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


def test_a_runtime_that_captures_its_networks_itself_is_told_that_their_arrays_come_again(
    opened: bundle.Bundle, runtime: QueuedRuntime
) -> None:
    runtime.records_itself = True
    with ExitStack() as stack:
        run_on_gpu(opened.manifest.graphs, runtime, stack, captured=True)()
        run_on_gpu(opened.manifest.graphs, runtime, stack, captured=False)()
    assert runtime.cuda.calls == ["detector", "synchronize"] * 2
    assert runtime.recorded == [True, False]


def test_a_runtime_that_cannot_be_captured_says_why(opened: bundle.Bundle, runtime: QueuedRuntime) -> None:
    runtime.refuses = "it allocates"
    with ExitStack() as stack, pytest.raises(NotHereError, match="it allocates"):
        run_on_gpu(opened.manifest.graphs, runtime, stack, captured=True)
