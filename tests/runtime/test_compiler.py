"""Networks become engines of TensorRT-RTX on a machine without a GPU, and what cannot be built is refused in words."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from gpu_needs import needs_no_gpu, needs_rtx
from lad_edge.export.half import to_half
from networks import conv_relu, two_in_two_out, unknown_operator

from lad_edge.errors import EngineError, UsageError
from lad_edge.runtime.compiler import Target, choose_target, compile_graph


@needs_rtx
@pytest.mark.parametrize("cross", [("sm_86",), ("sm_89",), ("sm_120",), ("8.6", "8.9", "12.0")])
@pytest.mark.parametrize("half", [False, True], ids=["f32", "f16"])
def test_an_engine_is_built_without_a_gpu(cross: tuple[str, ...], half: bool) -> None:
    target = choose_target(None, cross)
    graph, onnx = conv_relu()
    steps: list[tuple[str, float]] = []
    engine = compile_graph(
        target, "conv", graph, to_half(onnx) if half else onnx, lambda phase, share: steps.append((phase, share))
    )
    assert engine[:4] == b"vtrt"
    assert all(0 <= share <= 1 for _, share in steps)
    assert steps[-1][1] > 0.5


@needs_rtx
def test_an_engine_of_f16_holds_half_the_weights() -> None:
    graph, onnx = conv_relu(channels=4096)
    target = choose_target("tensorrt_rtx", ("sm_89",))
    full, half = (len(compile_graph(target, "conv", graph, data)) for data in (onnx, to_half(onnx)))
    assert full - half > 4096 * 27  # bytes: half a weight each, less what casts cost


@needs_rtx
@pytest.mark.parametrize("data", [b"", conv_relu()[1][:-9]], ids=["empty", "cut"])
def test_bytes_that_are_no_graph_never_reach_the_parser(data: bytes) -> None:
    with pytest.raises(EngineError, match="graph 'conv' is not usable"):
        compile_graph(Target("tensorrt_rtx", ("8.9",)), "conv", conv_relu()[0], data)


@needs_rtx
def test_a_graph_that_tensorrt_does_not_know_is_refused_on_one_line() -> None:
    with pytest.raises(EngineError, match=r"graph 'odd': tensorrt_rtx cannot read it: .*Frobnicate") as caught:
        compile_graph(Target("tensorrt_rtx", ("8.9",)), "odd", *unknown_operator())
    assert "\n" not in str(caught.value)


def test_an_engine_is_not_built_from_an_engine() -> None:
    graph, onnx = two_in_two_out()
    with pytest.raises(EngineError, match="this engine reads onnx, came tensorrt"):
        compile_graph(Target("tensorrt_rtx", ("8.9",)), "two", replace(graph, format="tensorrt", source="x"), onnx)


@needs_rtx
@pytest.mark.parametrize(
    ("cross", "message"),
    [
        (("sm_90",), r"does not build for compute capability 9\.0, only for .*sm_120.*sm_89"),
        (("ada",), "an architecture is written sm_89; came 'ada'"),
        (("sm_8",), "an architecture is written sm_89; came 'sm_8'"),
    ],
)
def test_an_architecture_that_cannot_be_built_for_is_refused(cross: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_target("tensorrt_rtx", cross)


def test_only_tensorrt_rtx_builds_for_another_gpu() -> None:
    with pytest.raises(UsageError, match="only --runtime tensorrt_rtx builds for another one"):
        choose_target("tensorrt", ("sm_89",))


@needs_rtx
@needs_no_gpu
def test_without_a_gpu_somebody_has_to_name_one() -> None:
    with pytest.raises(EngineError, match=r"there is no GPU to build for; .*--cross sm_89"):
        choose_target("tensorrt_rtx")


@pytest.mark.parametrize(
    ("words", "extra"), [("'tensorrt_rtx'", "tensorrt-rtx"), ("'tensorrt'", "tensorrt"), ("None", "tensorrt-rtx")]
)
def test_a_missing_package_is_named_with_its_command(words: str, extra: str) -> None:
    code = (
        "import sys; sys.modules['tensorrt'] = sys.modules['tensorrt_rtx'] = None\n"
        "from lad_edge.errors import MissingDependencyError\n"
        "from lad_edge.runtime.compiler import choose_target\n"
        f"try: choose_target({words})\n"
        "except MissingDependencyError as exc: print(exc)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install 'lad-edge[{extra}]'" in done.stdout
