"""On a machine with a GPU: frames of every detector along its line there, with each engine that is installed, against the CPU's line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_detectors import FRAME, SMALL, Small
from tolerances import LINES

from lad_edge.bundle import ENGINES
from lad_edge.errors import EngineError, MissingDependencyError, UsageError
from lad_edge.runtime import Runtime, open_plan, open_runtime
from lad_edge.runtime.compiler import choose_target, compile_graph
from lad_edge.runtime.gpu import find_gpus
from lad_edge.runtime.identity import identity
from lad_edge.runtime.tensorrt import EXTRAS
from lad_edge.scoring import open_on_best_line

cuda = pytest.importorskip("lad_edge.kernels.cuda", reason="built without nvcc")

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cuda.device_count() == 0, reason="no NVIDIA GPU")]


def open_engine(runtime: str, small: Small) -> Runtime:
    """The networks on the GPU, in f32; skips where that engine is not installed or has no form for this GPU."""
    try:
        if runtime == "onnxruntime_cuda":
            return open_runtime(runtime, small.graphs(), precision="f32")
        target = choose_target(runtime)
    except (MissingDependencyError, EngineError, UsageError) as exc:
        pytest.skip(str(exc))
    graphs = {
        role: (replace(graph, format=runtime, source=f"onnx/{role}"), compile_graph(target, role, graph, onnx))
        for role, (graph, onnx) in small.graphs().items()
    }
    return open_plan(identity(target, "f32", "0" * 64, find_gpus()), graphs, {}, file="test.plan")


@pytest.mark.parametrize("runtime", ENGINES)
@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize("name", SMALL)
def test_a_frame_on_the_gpu_is_scored_as_on_the_cpu(name: str, runtime: str, cuda_graph: bool) -> None:
    small = SMALL[name]
    with open_engine(runtime, small) as engine, open_runtime("onnxruntime", small.graphs(), threads=1) as on_cpu:
        scorer = open_on_best_line(small.detector, small.setup(engine), cuda_graph=cuda_graph)
        expected = open_on_best_line(small.detector, small.setup(on_cpu))
        for picture in np.random.default_rng(2).integers(0, 256, (4, *FRAME), np.uint8):
            for one in (scorer, expected):
                one.enqueue(picture)
            found, right = scorer.wait(), expected.wait()
            assert_allclose(
                [found.score, found.structural, found.logical],
                [right.score, right.structural, right.logical],
                rtol=LINES.rtol,
                atol=LINES.atol,
            )
            largest = float(np.abs(right.anomaly_map).max())
            assert_allclose(found.anomaly_map, right.anomaly_map, rtol=0, atol=LINES.rtol * largest)
            assert found.explain() == right.explain()
        captured = cuda_graph and runtime in EXTRAS
        assert scorer.line.where.startswith("one CUDA graph" if captured else "CUDA stream")
        scorer.close()
