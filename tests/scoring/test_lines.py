"""A frame along the line of a GPU has the scores, the map and the words of the same frame along the CPU's, for every detector.

The GPU of these tests computes: see queued_gpu.py. test_lines_on_gpu.py does the same on a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_device import module_on_host
from numpy.testing import assert_allclose, assert_array_equal
from queued_gpu import CapturedQueues, QueuedGpu, QueuedKernels, QueuedRuntime
from small_detectors import FRAME, ROI, SMALL, Small, masked
from tolerances import LINES

from lad_edge import bundle as bundles
from lad_edge.cli.gpu_checks import capture_note
from lad_edge.cli.run import headline
from lad_edge.cli.trial import trial_graph
from lad_edge.errors import EngineError, MissingDependencyError
from lad_edge.inspector import Inspector, Options
from lad_edge.runtime import open_runtime
from lad_edge.scoring import FrameScorer, cuda_line, open_on_best_line
from lad_edge.sources.process import DriverProcess

GRAPHS = {"efficient_ad": ["detector"], "ladmim": ["encode", "mim", "decode"], "masked_ridge": ["backbone"]}


def frames(count: int = 3) -> np.ndarray:
    """Pictures in which something differs from one to the next."""
    return np.random.default_rng(2).integers(0, 256, (count, *FRAME), np.uint8)


@pytest.fixture
def open_pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[FrameScorer, FrameScorer, QueuedGpu]]]:
    """open_pair(detector, eager=…, cuda_graph=…, refuses=…) → scorers of the CPU and of the GPU, and the GPU."""
    opened = []

    def make(small: Small, *, eager: bool = False, refuses: str = "", **options: Any) -> Any:
        engine = open_runtime("onnxruntime", small.graphs(), threads=1)
        gpu = QueuedGpu(eager=eager)
        monkeypatch.setattr(cuda_line, "cuda_kernels", lambda: QueuedKernels(gpu, module_on_host()))
        on_gpu = open_on_best_line(small.detector, small.setup(QueuedRuntime(gpu, engine, refuses)), **options)
        opened.append((engine, on_gpu))
        return open_on_best_line(small.detector, small.setup(engine)), on_gpu, gpu

    yield make
    for engine, scorer in opened:
        scorer.close()
        engine.close()


def same(on_cpu: FrameScorer, on_gpu: FrameScorer, picture: np.ndarray) -> None:
    """Both score the picture alike."""
    expected, found = answer(on_cpu, picture), answer(on_gpu, picture)
    for name in ("score", "structural", "logical"):
        assert_allclose(getattr(found, name), getattr(expected, name), rtol=LINES.rtol, atol=LINES.atol, err_msg=name)
    assert found.nonfinite == expected.nonfinite == 0
    largest = float(np.abs(expected.anomaly_map).max())
    assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=0, atol=LINES.rtol * largest)
    assert found.explain() == expected.explain()
    for branch, values in on_cpu.raw.items():
        assert_allclose(on_gpu.raw[branch], values, rtol=LINES.rtol, atol=LINES.rtol, err_msg=branch)


def answer(scorer: FrameScorer, picture: np.ndarray) -> Any:
    scorer.enqueue(picture)
    return scorer.wait()


@pytest.mark.parametrize("eager", [False, True], ids=["late", "early"])
@pytest.mark.parametrize("name", SMALL)
def test_a_frame_on_the_gpu_is_scored_as_on_the_cpu(open_pair: Any, name: str, eager: bool) -> None:
    on_cpu, on_gpu, gpu = open_pair(SMALL[name], eager=eager)
    for picture in frames():
        same(on_cpu, on_gpu, picture)
    assert gpu.calls.count("capture") == 1
    assert gpu.calls.count("launch") == 1 + 2  # the first one repeats the frame that was captured
    assert on_gpu.line.where == "one CUDA graph"
    assert on_cpu.line.where == "kernels on the CPU"


@pytest.mark.parametrize("detector", GRAPHS)
def test_a_captured_frame_is_one_launch_and_brings_everything_back_by_one_copy(open_pair: Any, detector: str) -> None:
    _, on_gpu, gpu = open_pair(SMALL[detector])
    first, second = frames(2)
    answer(on_gpu, first)
    step_by_step = gpu.calls[: gpu.calls.index("synchronize", gpu.calls.index("upload"))]
    assert [call for call in step_by_step if call in GRAPHS[detector]] == GRAPHS[detector]
    assert (step_by_step.count("upload"), step_by_step.count("download")) == (1, 1)
    gpu.calls.clear()
    scores = answer(on_gpu, second)
    assert gpu.calls == ["launch", "synchronize"]
    assert set(scores.stages_us) == {"pre", "infer", "post"}


@pytest.mark.parametrize(
    ("options", "why"),
    [({"cuda_graph": False}, "not wanted"), ({"refuses": "its engine allocates"}, "its engine allocates")],
)
def test_without_a_cuda_graph_the_steps_are_enqueued_for_each_frame(
    open_pair: Any, options: dict[str, Any], why: str
) -> None:
    on_cpu, on_gpu, gpu = open_pair(SMALL["ladmim"], **options)
    for picture in frames():
        same(on_cpu, on_gpu, picture)
    assert "capture" not in gpu.calls
    assert gpu.calls.count("encode") == 3
    assert set(on_gpu.line.runtime.recorded) == {options.get("cuda_graph", True)}
    assert on_gpu.line.where == f"CUDA stream, not one CUDA graph: {why}"


def test_a_closed_line_lets_go_of_its_cuda_graph(open_pair: Any) -> None:
    _, on_gpu, _ = open_pair(SMALL["efficient_ad"])
    answer(on_gpu, frames(1)[0])
    (captured,) = on_gpu.line._captured.values()
    for _twice in range(2):
        on_gpu.close()
        assert captured.closed


def test_what_cannot_be_captured_after_all_goes_on_step_by_step(open_pair: Any) -> None:
    on_cpu, on_gpu, gpu = open_pair(SMALL["efficient_ad"])

    def refuse_in_a_capture() -> None:
        if gpu.captured is not None:
            raise EngineError("graph 'detector': TensorRT failed: it cannot be captured")

    on_gpu.line.steps.append(refuse_in_a_capture)
    for picture in frames():
        same(on_cpu, on_gpu, picture)
    assert on_gpu.line.where.endswith("TensorRT failed: it cannot be captured")
    assert "launch" not in gpu.calls


def test_predictions_that_nobody_waits_for_would_be_seen(open_pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queues are a test only if they catch a missing join, in a CUDA graph and outside."""
    monkeypatch.setattr(cuda_line.CudaLine, "join", lambda _line, _beside: None)
    on_cpu, on_gpu, _ = open_pair(SMALL["ladmim"])
    picture = frames(1)[0]
    expected, found = answer(on_cpu, picture), answer(on_gpu, picture)
    assert found.logical != pytest.approx(expected.logical, rel=1e-3)
    assert "StreamEndCapture" in on_gpu.line.where


def test_predictions_run_beside_the_decoder_on_a_stream_of_their_own(open_pair: Any) -> None:
    _, on_gpu, gpu = open_pair(SMALL["ladmim"])
    answer(on_gpu, frames(1)[0])
    main, side = gpu.streams
    assert len(gpu.work.steps[side]) == 2  # waits for the features, predicts
    assert gpu.work.steps[side][0] == (main, gpu.work.steps[side][0][1])


@pytest.mark.parametrize("name", ["efficient_ad", "ulsad", "fod", "ladmim", "masked_ridge"])
def test_outputs_of_an_engine_that_are_not_finite_are_counted(
    open_pair: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _, on_gpu, _ = open_pair(SMALL[name])
    engine, (role, (_, outputs)) = on_gpu.line.runtime.engine, next(iter(SMALL[name].networks.items()))
    run, first, picture = engine.run, next(iter(outputs)), frames(1)[0]

    def spoilt(graph: str, **buffers: np.ndarray) -> None:
        run(graph, **buffers)
        if graph == role:
            buffers[first].flat[3] = np.nan

    assert answer(on_gpu, picture).nonfinite == 0
    monkeypatch.setattr(engine, "run", spoilt)
    assert answer(on_gpu, picture).nonfinite > 0
    monkeypatch.undo()
    assert answer(on_gpu, picture).nonfinite == 0


@pytest.fixture
def camera() -> DriverProcess:
    """The memory of a driver process, which is not started; `picture` lends a frame in one of its slots."""
    return DriverProcess("test", {})


def in_slot(camera: DriverProcess, slot: int, picture: np.ndarray) -> np.ndarray:
    frame = camera.picture(slot, "|u1", picture.shape)
    np.copyto(frame, picture)
    return frame


def test_a_frame_of_a_camera_goes_up_from_its_slot_without_a_copy(open_pair: Any, camera: DriverProcess) -> None:
    on_cpu, on_gpu, gpu = open_pair(SMALL["efficient_ad"])
    pictures = frames(5)
    for slot, picture in zip((1, 2, 1, 2, 1), pictures, strict=True):
        expected, frame = answer(on_cpu, picture).score, in_slot(camera, slot, np.zeros_like(picture))
        on_gpu.enqueue(frame)
        np.copyto(frame, picture)  # what the GPU reads when its turn comes is the slot itself
        assert on_gpu.wait().score == pytest.approx(expected, rel=LINES.rtol)
    assert (gpu.calls.count("lock"), gpu.calls.count("capture")) == (2, 2)  # once for each slot
    assert gpu.calls[-2:] == ["launch", "synchronize"]
    same(on_cpu, on_gpu, pictures[0])  # any other frame goes up as a copy, by a CUDA graph of its own
    assert (gpu.calls.count("lock"), gpu.calls.count("capture")) == (2, 3)


def test_a_slot_is_given_back_while_the_gpu_knows_its_pages(open_pair: Any, camera: DriverProcess) -> None:
    _, on_gpu, _ = open_pair(SMALL["efficient_ad"])
    frame = in_slot(camera, 3, frames(1)[0])
    answer(on_gpu, frame)
    assert camera._leased == {3}
    del frame
    assert camera._leased == set()


def test_pages_that_cannot_be_locked_are_copied_and_it_is_said(open_pair: Any, camera: DriverProcess) -> None:
    on_cpu, on_gpu, gpu = open_pair(SMALL["efficient_ad"])
    gpu.refuses_pages = "CUDA failed: cuMemHostRegister: out of memory"
    for picture in frames():
        same(on_cpu, on_gpu, in_slot(camera, 1, picture))
    assert on_gpu.line.where == f"one CUDA graph; frames of a camera are copied first: {gpu.refuses_pages}"
    assert gpu.calls.count("capture") == 1


def test_more_places_than_there_are_graphs_for_take_turns(open_pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_line, "_MOST_GRAPHS", 2)
    camera = DriverProcess("test", {})
    on_cpu, on_gpu, _ = open_pair(SMALL["efficient_ad"])
    for slot, picture in zip((1, 2, 3, 1, 2, 3), frames(6), strict=True):
        same(on_cpu, on_gpu, in_slot(camera, slot, picture))
        assert len(on_gpu.line._captured) <= 2


def test_a_cuda_graph_that_gives_other_results_is_not_used(open_pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_gpu, gpu = open_pair(SMALL["efficient_ad"])
    monkeypatch.setattr(CapturedQueues, "_run", lambda _work: None)
    for picture in frames():
        same(on_cpu, on_gpu, picture)
    assert on_gpu.line.where.endswith("a frame has other results as a CUDA graph than step by step")
    assert gpu.calls.count("launch") == 1


def test_of_a_region_of_interest_only_its_pixels_are_copied_and_its_rows_go_up(open_pair: Any) -> None:
    _, on_gpu, _ = open_pair(SMALL["efficient_ad"])
    picture = frames(1)[0]
    x, y, width, height = ROI
    on_gpu.enqueue(picture)
    assert on_gpu.line._upload._source.shape == (height, FRAME[1], 3)
    before = on_gpu.wait().score
    outside = np.ones(FRAME[:2], bool)
    outside[y : y + height, x : x + width] = False
    picture[outside] = 255
    assert answer(on_gpu, picture).score == before
    assert 255 not in on_gpu.line._upload._pinned[outside]


def test_a_frame_of_another_shape_or_type_is_refused(open_pair: Any) -> None:
    _, on_gpu, _ = open_pair(SMALL["efficient_ad"])
    with pytest.raises(EngineError, match=r"expected a frame of uint8 \(37, 53, 3\), came uint8 \(53, 37, 3\)"):
        on_gpu.enqueue(np.zeros((53, 37, 3), np.uint8))
    with pytest.raises(EngineError, match="came float32"):
        on_gpu.enqueue(np.zeros(FRAME, np.float32))


def test_a_kernel_that_fails_is_an_error_of_the_engine(open_pair: Any) -> None:
    _, on_gpu, _ = open_pair(SMALL["efficient_ad"])

    def fail() -> None:
        raise RuntimeError("fuse: CUDA error cudaErrorLaunchFailure")

    on_gpu.line.steps.append(fail)
    with pytest.raises(EngineError, match="the GPU failed: fuse: CUDA error cudaErrorLaunchFailure"):
        on_gpu.enqueue(frames(1)[0])


def test_a_target_without_a_cuda_form_has_its_kernels_on_the_cpu_and_says_why(open_pair: Any) -> None:
    on_cpu, on_gpu, gpu = open_pair(masked("code"))
    same(on_cpu, on_gpu, frames(1)[0])
    assert on_gpu.line.where == "kernels on the CPU: the target 'code' is computed on the CPU"
    assert "upload" not in gpu.calls


def test_without_pycuda_or_compiled_kernels_they_run_on_the_cpu_and_it_is_said(
    open_pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, on_gpu, _ = open_pair(SMALL["ulsad"])
    runtime, small = on_gpu.line.runtime, SMALL["ulsad"]

    def missing() -> Any:
        raise MissingDependencyError("the CUDA kernels are not part of this installation")

    monkeypatch.setattr(cuda_line, "cuda_kernels", missing)
    scorer = open_on_best_line("ulsad", small.setup(runtime))
    assert scorer.line.where == "kernels on the CPU: the CUDA kernels are not part of this installation"
    runtime.cuda = None
    scorer = open_on_best_line("ulsad", small.setup(runtime))
    assert "pip install 'lad-edge[cuda]'" in scorer.line.where
    assert_array_equal(np.isfinite(answer(scorer, frames(1)[0]).anomaly_map), True)


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_an_inspector_on_the_gpu_has_the_verdicts_and_scores_of_one_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda_graph: bool
) -> None:
    demo, gpu = bundles.read(Path(str(files("lad_edge.assets") / "demo.lad"))), QueuedGpu()

    def on_gpu(name: str, graphs: Any, **given: Any) -> Any:
        runtime = QueuedRuntime(gpu, open_runtime(name, graphs, **given))
        runtime.name = "tensorrt"  # what `run` takes for a runtime of a GPU
        return runtime

    options = Options(runtime="onnxruntime", precision="f32", threads=1, cuda_graph=cuda_graph)
    with Inspector(demo, options) as inspector:
        expected = inspector(np.array(demo.golden_frames[0]))
    monkeypatch.setattr("lad_edge.inspector.open_runtime", on_gpu)
    monkeypatch.setattr(cuda_line, "cuda_kernels", lambda: QueuedKernels(gpu, module_on_host()))
    with Inspector(demo, options) as inspector:
        found = inspector(np.array(demo.golden_frames[0]))
        assert ("launch" in gpu.calls) == cuda_graph
        path = "one CUDA graph" if cuda_graph else "CUDA stream, not one CUDA graph: not wanted"
        assert inspector.frame_path == path
        assert f" f32 ({path}); self-test passed" in headline(inspector)
    assert found.verdict == expected.verdict
    assert found.score == pytest.approx(expected.score, rel=LINES.rtol)
    assert_allclose(found.anomaly_map, expected.anomaly_map, atol=LINES.rtol * float(expected.anomaly_map.max()))


def test_doctor_says_whether_an_engine_runs_as_a_cuda_graph() -> None:
    graph, onnx = trial_graph()
    with open_runtime("onnxruntime", {"trial": (graph, onnx)}, threads=1) as engine:
        gpu = QueuedGpu()
        assert capture_note(QueuedRuntime(gpu, engine), graph) == "runs as a CUDA graph"
        assert gpu.calls == ["trial", "synchronize", "capture", "trial", "launch", "synchronize"]
        side = gpu.new_stream()

        def forks_without_joining(_graph: str, stream: Any, **_arrays: Any) -> None:
            side.after(stream.record(gpu.event()))
            side.do(lambda: None)

        opened = QueuedRuntime(gpu, engine)
        opened.enqueue = forks_without_joining  # type: ignore[method-assign,assignment]
        assert capture_note(opened, graph) == "no CUDA graph (CUDA failed: cuStreamEndCapture gave error 904)"
