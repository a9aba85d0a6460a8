"""Every engine gives what the graph means, into the caller's buffers, and refuses what does not fit."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from networks import conv_relu, conv_relu_by_numpy, two_in_two_out, unknown_operator

from lad_edge import runtime
from lad_edge.bundle import Graph
from lad_edge.errors import EngineError, MissingDependencyError, UsageError
from lad_edge.runtime import Runtime, buffers, cpu, open_runtime

F32 = 1e-5  # sums of 27 float32 products in another order
BF16 = 2e-2  # 8 bits of mantissa, relative to the largest value

INSTALLED = runtime.available()


needs_bf16 = pytest.mark.skipif(
    "bf16" not in INSTALLED.get("openvino", ()), reason="this machine has no native bf16 or no OpenVINO"
)


@pytest.fixture(params=list(runtime.RUNTIMES))
def name(request: pytest.FixtureRequest) -> str:
    if request.param not in INSTALLED:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def engine(name: str) -> Iterator[Runtime]:
    with open_runtime(name, {"conv": conv_relu(), "two": two_in_two_out()}, precision="f32", threads=2) as opened:
        yield opened


def image(seed: int = 0, height: int = 9, width: int = 13) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((1, 3, height, width), np.float32)


def empty_map(height: int = 9, width: int = 13) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((1, 8, height - 2, width - 2), np.nan, np.float32)


# results


@pytest.mark.parametrize(("height", "width"), [(3, 3), (9, 13), (15, 33), (64, 65)])
def test_a_convolution_equals_numpy(name: str, height: int, width: int) -> None:
    given, result = image(1, height, width), empty_map(height, width)
    with open_runtime(name, {"conv": conv_relu(height, width)}, precision="f32", threads=1) as opened:
        opened.run("conv", image=given, map=result)
    np.testing.assert_allclose(result, conv_relu_by_numpy(given), rtol=F32, atol=F32)


@pytest.mark.skipif(len(INSTALLED) < 2, reason="needs OpenVINO and ONNX Runtime")
def test_the_engines_agree() -> None:
    results = []
    for name in INSTALLED:
        results.append(empty_map())
        with open_runtime(name, {"conv": conv_relu()}, precision="f32") as opened:
            opened.run("conv", image=image(), map=results[-1])
    np.testing.assert_allclose(results[0], results[1], rtol=F32, atol=F32)


def test_graphs_of_several_inputs_and_outputs_are_bound_by_name(engine: Runtime) -> None:
    a, b = np.random.default_rng(2).standard_normal((2, 1, 33), np.float32)
    product, total = np.empty_like(a), np.empty_like(a)
    engine.run("two", product=product, b=b, sum=total, a=a)
    np.testing.assert_array_equal(total, a + b)
    np.testing.assert_array_equal(product, a * b)


@needs_bf16
def test_bf16_is_executed_and_near() -> None:
    given, result = image(), empty_map()
    with open_runtime("openvino", {"conv": conv_relu()}, precision="bf16") as opened:
        assert opened.precision == "bf16"
        opened.run("conv", image=given, map=result)
    expected = conv_relu_by_numpy(given)
    error = np.abs(result - expected).max() / np.abs(expected).max()
    assert F32 < error < BF16  # above F32: it was not computed in float32


@needs_bf16
def test_a_graph_that_asks_for_f32_gets_it_in_an_engine_of_bf16() -> None:
    given, result = image(), empty_map()
    graph, data = conv_relu()
    with open_runtime("openvino", {"conv": (replace(graph, precision="f32"), data)}, precision="bf16") as opened:
        assert opened.precision == "bf16"
        opened.run("conv", image=given, map=result)
    np.testing.assert_allclose(result, conv_relu_by_numpy(given), rtol=F32, atol=F32)


# buffers


def test_new_values_in_a_bound_buffer_are_seen(engine: Runtime) -> None:
    given, result = image(), empty_map()
    for seed in range(3):
        given[:] = image(seed)
        engine.run("conv", image=given, map=result)
        np.testing.assert_allclose(result, conv_relu_by_numpy(image(seed)), rtol=F32, atol=F32)


def test_two_sets_of_buffers_take_turns(engine: Runtime) -> None:
    sets = [(image(0), empty_map()), (image(1), empty_map())]
    for turn in range(6):
        given, result = sets[turn % 2]
        result[:] = np.nan
        engine.run("conv", image=given, map=result)
        np.testing.assert_allclose(result, conv_relu_by_numpy(given), rtol=F32, atol=F32)


def test_inputs_stay_as_they_are(engine: Runtime) -> None:
    given = image()
    engine.run("conv", image=given, map=empty_map())
    np.testing.assert_array_equal(given, image())


def test_fresh_buffers_each_time_stay_right_and_bounded(engine: Runtime) -> None:
    for seed in range(3 * buffers.MAX_SETS):
        result = empty_map()
        engine.run("conv", image=image(seed), map=result)
        np.testing.assert_allclose(result, conv_relu_by_numpy(image(seed)), rtol=F32, atol=F32)
    sets = engine._graphs["conv"].binding_for.sets  # type: ignore[attr-defined]
    assert len(sets) == buffers.MAX_SETS


def test_the_steady_state_allocates_no_arrays(name: str) -> None:
    given, result = image(0, 130, 130), empty_map(130, 130)
    with open_runtime(name, {"conv": conv_relu(130, 130)}, precision="f32", threads=1) as opened:
        opened.run("conv", image=given, map=result)
        opened.run("conv", image=given, map=result)
        tracemalloc.start()  # numpy reports its arrays to it
        for _ in range(20):
            opened.run("conv", image=given, map=result)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < result.nbytes / 8


BAD_BUFFERS = {
    "shape": ({"image": np.zeros((1, 3, 9, 12), np.float32)}, r"'image' expects float32 \(1, 3, 9, 13\), came float32"),
    "type": ({"image": np.zeros((1, 3, 9, 13))}, r"'image' expects float32 .*, came float64 \(1, 3, 9, 13\)"),
    "list": ({"image": [1.0]}, "'image' expects float32 .*, came list"),
    "layout": ({"image": np.zeros((1, 9, 13, 3), np.float32).transpose(0, 3, 1, 2)}, "'image' expects a C-contiguous"),
    "output shape": ({"map": np.zeros((8, 7, 11), np.float32)}, r"'map' expects float32 \(1, 8, 7, 11\), came"),
    "unknown": ({"mask": np.zeros(1, np.float32)}, "expected the buffers image, map; came image, map, mask"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_BUFFERS.values(), ids=BAD_BUFFERS)
def test_buffers_that_do_not_fit_are_refused(engine: Runtime, changes: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"image": image(), "map": empty_map()} | changes
    with pytest.raises(EngineError, match=f"graph 'conv': {message}"):
        engine.run("conv", **given)  # type: ignore[arg-type]


def test_a_missing_buffer_is_refused(engine: Runtime) -> None:
    with pytest.raises(EngineError, match="expected the buffers image, map; came image"):
        engine.run("conv", image=image())


@pytest.mark.parametrize("frozen", ["image", "map"])
def test_a_read_only_buffer_is_refused(engine: Runtime, frozen: str) -> None:
    given = {"image": image(), "map": empty_map()}
    given[frozen].flags.writeable = False
    with pytest.raises(EngineError, match=f"'{frozen}' expects a C-contiguous, aligned, writeable array"):
        engine.run("conv", **given)


def test_buffers_that_share_memory_are_refused(engine: Runtime) -> None:
    shared = np.zeros((1, 33), np.float32)
    with pytest.raises(EngineError, match="'sum' shares memory with 'a'; give each its own"):
        engine.run("two", a=shared, b=np.zeros_like(shared), sum=shared, product=np.zeros_like(shared))


def test_a_refused_call_leaves_the_engine_usable(engine: Runtime) -> None:
    given, result = image(), empty_map()
    with pytest.raises(EngineError):
        engine.run("conv", image=given, map=result[0])
    engine.run("conv", image=given, map=result)
    np.testing.assert_allclose(result, conv_relu_by_numpy(given), rtol=F32, atol=F32)


# opening and closing


def test_the_engine_says_what_it_is(engine: Runtime, name: str) -> None:
    assert (engine.name, engine.precision, engine.threads) == (name, "f32", 2)
    assert engine.version[0].isdigit()
    assert engine.device


def test_an_unknown_graph_is_named(engine: Runtime) -> None:
    with pytest.raises(EngineError, match="no graph 'mim'; open are: conv, two"):
        engine.run("mim")


def test_a_closed_runtime_runs_nothing(engine: Runtime) -> None:
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="open are: none"):
        engine.run("conv", image=image(), map=empty_map())


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x08\x08" + b"\xff" * 50, conv_relu()[1][:-9]])
def test_bytes_that_are_no_graph_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(EngineError, match=r"graph 'conv' is not usable: .*; export it again"):
        open_runtime(name, {"conv": (conv_relu()[0], data)}, precision="f32")


def test_a_graph_that_the_engine_does_not_know_is_refused_on_one_line(name: str) -> None:
    with pytest.raises(
        EngineError, match=r"graph 'odd': .* cannot (read|load|compile) it: .*; export it again"
    ) as caught:
        open_runtime(name, {"odd": unknown_operator()}, precision="f32")
    assert "\n" not in str(caught.value)
    assert "Frobnicate" in str(caught.value)


def test_a_graph_that_is_not_what_was_stated_is_refused(name: str) -> None:
    stated = Graph("graph/conv", "onnx", {"image": (1, 3, 9, 13)}, {"map": (1, 8, 7, 12)})
    with pytest.raises(EngineError, match="graph 'conv': the outputs should be map"):
        open_runtime(name, {"conv": (stated, conv_relu()[1])}, precision="f32")


def test_a_graph_of_another_format_is_refused(name: str) -> None:
    stated = Graph("graph/conv", "tensorrt", {"image": (1, 3, 9, 13)}, {"map": (1, 8, 7, 11)})
    with pytest.raises(EngineError, match="this engine reads onnx, came tensorrt"):
        open_runtime(name, {"conv": (stated, conv_relu()[1])}, precision="f32")


@pytest.mark.parametrize("precision", ["f16", "int8", "f64"])
def test_a_precision_that_is_not_native_is_refused(name: str, precision: str) -> None:
    with pytest.raises(EngineError, match=f"{name} does not run {precision} natively on this machine, only f32"):
        open_runtime(name, {"conv": conv_relu()}, precision=precision)


def test_the_executed_precision_is_checked_after_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("lad_edge.runtime.openvino")
    if "FP16" in openvino._core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU executes f16: there is no silent change to be caught")
    monkeypatch.setitem(openvino._EXECUTED, "f16", "f16")
    with pytest.raises(EngineError, match=r"OpenVINO would run (bf16|f32) instead of f16"):
        openvino.open_graphs({"conv": conv_relu()}, "f16", 1)


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.5, True, "2"])
def test_a_thread_count_that_makes_no_sense_is_refused(name: str, threads: object) -> None:
    with pytest.raises(UsageError, match="threads: expected an integer from 1 to 1024"):
        open_runtime(name, {"conv": conv_relu()}, threads=threads)  # type: ignore[arg-type]


def test_an_unknown_runtime_is_named() -> None:
    with pytest.raises(UsageError, match="runtime 'tflite' is not known; choose one of openvino, onnxruntime"):
        open_runtime("tflite", {})


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="ONNX Runtime is not installed")
@pytest.mark.skipif("onnxruntime_cuda" in INSTALLED, reason="this machine runs ONNX Runtime on a GPU")
def test_onnx_runtime_without_a_gpu_does_not_fall_back_to_the_cpu() -> None:
    with pytest.raises((MissingDependencyError, EngineError), match=r"has no CUDA; pip|needs an NVIDIA GPU"):
        open_runtime("onnxruntime_cuda", {"conv": conv_relu()})


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])
def test_a_runtime_of_plans_names_the_command_that_makes_one(name: str) -> None:
    with pytest.raises(EngineError, match=rf"{name} runs plans: .*lad-edge build X.lad -o X.plan --runtime {name}"):
        open_runtime(name, {"conv": conv_relu()})


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="ONNX Runtime is not installed")
def test_onnx_runtime_computes_on_arrays_of_a_device_by_their_addresses() -> None:
    from lad_edge.runtime.onnxruntime import Session, session_options

    given, results = image(), [empty_map(), empty_map()]
    session = Session("conv", *conv_relu(), session_options(1), ["CPUExecutionProvider"])
    for result in (*results, results[0]):  # the device is the host here; with "cuda" the addresses are those of the GPU
        result[:] = np.nan
        session.enqueue({"image": at(given), "map": at(result)}, device="cpu")
        np.testing.assert_allclose(result, conv_relu_by_numpy(given), rtol=F32, atol=F32)
    with pytest.raises(EngineError, match=r"graph 'conv': expected float32 arrays on the GPU: image .*; came others"):
        session.enqueue({"image": at(given[:, :, 1:])}, device="cpu")


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="ONNX Runtime is not installed")
def test_each_set_of_arrays_is_a_recording_of_its_own_and_only_if_it_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lad_edge.runtime import onnxruntime

    monkeypatch.setattr(onnxruntime, "MAX_SETS", 2)
    session = onnxruntime.Session("conv", *conv_relu(), onnxruntime.session_options(1), ["CPUExecutionProvider"])
    asked: list[tuple[str, str]] = []
    run = session.session.run_with_iobinding

    def noted(binding: Any, options: Any) -> None:
        entries = (
            options.get_run_config_entry(key) for key in ("gpu_graph_id", "disable_synchronize_execution_providers")
        )
        asked.append(tuple(entries))  # type: ignore[arg-type]
        run(binding, options)

    monkeypatch.setattr(session.session, "run_with_iobinding", noted)
    given, results = image(), [empty_map() for _ in range(3)]
    for result, recording in ((0, True), (1, True), (0, True), (1, False), (2, True)):
        session.enqueue({"image": at(given), "map": at(results[result])}, "cpu", recording=recording)
    session.run({"image": given, "map": results[0]})
    assert asked == [("1", "1"), ("2", "1"), ("1", "1"), ("-1", "1"), ("-1", "1"), ("-1", "0")]
    for result in results:
        np.testing.assert_allclose(result, conv_relu_by_numpy(given), rtol=F32, atol=F32)


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="ONNX Runtime is not installed")
def test_a_session_that_cannot_record_goes_on_without_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from lad_edge.runtime.onnxruntime import Session, session_options

    session = Session("conv", *conv_relu(), session_options(1), ["CPUExecutionProvider"])
    run, refused = session.session.run_with_iobinding, list[str]()

    def records_nothing(binding: Any, options: Any) -> None:
        if options.get_run_config_entry("gpu_graph_id") != "-1":
            refused.append("once")
            raise RuntimeError("Graph capture did not complete")
        run(binding, options)

    monkeypatch.setattr(session.session, "run_with_iobinding", records_nothing)
    given, result = image(), empty_map()
    for _turn in range(2):
        result[:] = np.nan
        session.enqueue({"image": at(given), "map": at(result)}, "cpu", recording=True)
        np.testing.assert_allclose(result, conv_relu_by_numpy(given), rtol=F32, atol=F32)
    assert refused == ["once"]
    assert session.cannot_record == "graph 'conv': ONNX Runtime failed: Graph capture did not complete"


def at(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Any:
    """What a DeviceArray says of itself."""
    return SimpleNamespace(pointer=array.ctypes.data, shape=array.shape, dtype=array.dtype)


# choosing


def test_the_default_runtime_is_one_that_is_installed() -> None:
    assert runtime.default_runtime() in INSTALLED
    with open_runtime(None, {"two": two_in_two_out()}) as opened:
        assert opened.name == runtime.default_runtime()
        assert opened.precision == runtime.preferred_precision()
        assert opened.threads == cpu.physical_cores()


def test_the_preferred_precision_is_calibrated_and_native(name: str) -> None:
    assert runtime.preferred_precision(name, among=("f32",)) == "f32"
    assert runtime.preferred_precision(name) in INSTALLED[name]
    with pytest.raises(EngineError, match="calibrated for int8; export it again with --precision f32"):
        runtime.preferred_precision(name, among=("int8",))


def python(code: str) -> str:
    """Output of a fresh interpreter with warnings as errors."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("package", ["openvino", "onnxruntime"])
def test_a_missing_package_is_named_with_its_command(package: str) -> None:
    said = python(
        f"import sys; sys.modules['{package}'] = None\n"
        "from lad_edge import errors, runtime\n"
        f"try: runtime.open_runtime('{package}', {{}})\n"
        "except errors.MissingDependencyError as exc: print(exc)\n"
        f"print('{package}' in runtime.available())"
    )
    assert "cannot be imported" in said
    assert said.endswith(f"; pip install 'lad-edge[{package}]'\nFalse")


@pytest.mark.skipif(len(INSTALLED) < 2, reason="needs OpenVINO and ONNX Runtime")
@pytest.mark.parametrize(("package", "other"), [("openvino", "onnxruntime"), ("onnxruntime", "openvino")])
def test_the_other_engine_is_the_default_where_one_is_missing(package: str, other: str) -> None:
    hide = f"import sys; sys.modules['{package}'] = None\n"
    assert python(hide + "from lad_edge import runtime; print(runtime.default_runtime())") == other


def test_no_engine_at_all_is_an_error_with_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> runtime.Engine:
        raise MissingDependencyError("not installed")

    monkeypatch.setattr(runtime, "RUNTIMES", dict.fromkeys(runtime.RUNTIMES, missing))
    assert runtime.available() == {}
    with pytest.raises(MissingDependencyError, match="no inference engine is installed; pip install 'lad-edge"):
        runtime.default_runtime()


@pytest.mark.skipif("openvino" not in INSTALLED, reason="OpenVINO is not installed")
def test_openvino_is_imported_without_converter_and_telemetry() -> None:
    said = python(
        "import sys\n"
        "from lad_edge import runtime; runtime.preferred_precision('openvino')\n"
        "print([m for m in sys.modules if 'telemetry' in m or m.startswith('openvino.tools')])\n"
        "import importlib.util; print(importlib.util.find_spec('openvino.tools.ovc') is not None)"
    )
    assert said == "[]\nTrue"


def test_importing_the_room_imports_no_engine() -> None:
    loaded = python(
        "import sys, lad_edge.runtime; print({'openvino', 'onnxruntime', 'torch', 'onnx'} & set(sys.modules))"
    )
    assert loaded == "set()"


# the CPU


def test_physical_cores_are_between_one_and_all() -> None:
    assert 1 <= cpu.physical_cores() <= len(__import__("os").sched_getaffinity(0))


@pytest.mark.parametrize(
    ("line", "native"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),  # OpenVINO imitates bf16 on these
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_tile amx_bf16", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("Features\t: fp asimd", False),
        ("", False),
    ],
)
def test_native_bf16_is_read_from_the_flags(line: str, native: bool) -> None:
    assert cpu.has_native_bf16(f"processor\t: 0\n{line}\nbugs\t: bf16") is native
