"""lad-edge build on a machine without a GPU: real engines of TensorRT-RTX, what the plan says of itself, and where it is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gpu_needs import needs_no_gpu, needs_rtx
from lad_edge.export.half import to_half

from lad_edge import bundle as bundles
from lad_edge import inspector
from lad_edge.bundle import Bundle
from lad_edge.cli import main
from lad_edge.errors import EngineError
from lad_edge.inspector import Inspector, Options
from lad_edge.runtime import compiler, onnxruntime, onnxruntime_cuda, open_runtime
from lad_edge.runtime.gpu import Gpu, Gpus

if TYPE_CHECKING:
    from lad_edge.runtime import Graphs

pytestmark = needs_rtx


@pytest.fixture(scope="module")
def plan(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan for RTX 30 and RTX 40 in f16."""
    out = tmp_path_factory.mktemp("plan") / "tiny.plan"
    words = ["build", str(make_bundle()), "-o", str(out), "--precision", "f16", "--cross", "sm_86,sm_89"]
    assert main(words) == 0
    return out


def last_error(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err.splitlines()[-1]


def onnx_of(bundle: Bundle) -> bytes:
    return bytes(bundle.sources()["detector"][1])


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_a_plan_holds_engines_their_device_and_everything_of_the_lad(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], precision: str
) -> None:
    out = tmp_path / "tiny.plan"
    words = ["build", str(tiny_bundle), "-o", str(out), "--precision", precision, "--cross", "sm_120", "--json"]
    assert main(words) == 0
    document = json.loads(capfd.readouterr().out)
    lad, plan = bundles.read(tiny_bundle), bundles.read(out)
    assert plan.sha256 == document["sha256"]
    device = plan.manifest.device
    assert device is not None
    assert (device.runtime, device.compute_capabilities, device.precision) == ("tensorrt_rtx", ("12.0",), precision)
    assert (device.gpu, device.source_sha256) == (None, lad.sha256)
    assert document["device"]["compute_capabilities"] == ["12.0"]
    engine = plan.graph_bytes("detector")
    assert bytes(engine[:4]) == b"vtrt"
    assert document["graphs"]["detector"]["size_bytes"] == len(engine)
    assert onnx_of(plan) == onnx_of(lad)
    assert plan.calibration(precision) == lad.calibration("f32")
    assert set(lad.tensors) <= set(plan.tensors)


def test_f16_proves_its_golden_frames_on_the_cpu_first(plan: Path) -> None:
    proof = bundles.read(plan).manifest.parity["f16"]
    assert isinstance(proof, dict)
    assert proof["images"] == 4
    assert 0 < proof["max_relative_error"] < 2e-2  # type: ignore[operator]


def test_f16_that_changes_the_golden_scores_is_not_written(
    make_bundle: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.plan"
    words = ["build", str(make_bundle(golden_error=0.5)), "-o", str(out), "--precision", "f16", "--cross", "sm_89"]
    assert main(words) == 3
    assert "f16: the golden frames should keep their scores" in last_error(capfd)
    assert not out.exists()


def test_a_plan_is_built_again_from_itself(plan: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.plan"
    assert main(["build", str(plan), "-o", str(again), "--cross", "sm_89"]) == 0
    first, second, lad = bundles.read(plan), bundles.read(again), bundles.read(tiny_bundle)
    assert second.manifest.device is not None
    assert (second.manifest.device.precision, second.manifest.device.compute_capabilities) == ("f16", ("8.9",))
    assert second.manifest.device.source_sha256 == lad.sha256
    assert onnx_of(second) == onnx_of(lad)
    assert set(second.tensors) == set(first.tensors)


def test_the_same_file_gives_the_same_plan(tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("a.plan", "b.plan"):
        assert main(["build", str(tiny_bundle), "-o", str(tmp_path / name), "--cross", "sm_89"]) == 0
    assert (tmp_path / "a.plan").read_bytes() == (tmp_path / "b.plan").read_bytes()


@pytest.fixture
def gpu(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine with a GPU that is none: its engines are built for real, and the CPU computes what they would."""
    found = Gpus((Gpu("Host GPU", "8.9", 1 << 30),), "13.1", "580.65.06")
    monkeypatch.setattr(compiler, "find_gpus", lambda: found)
    monkeypatch.setattr("lad_edge.runtime.gpu.find_gpus", lambda: found)
    networks = bundles.read(tiny_bundle).graphs()
    monkeypatch.setattr(inspector, "open_plan", lambda *_plan, **_asked: open_runtime(None, networks, precision="f32"))


@pytest.mark.usefixtures("gpu")
def test_on_its_gpu_a_plan_is_proven_before_it_has_its_name(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "here.plan"
    assert main(["build", str(tiny_bundle), "-o", str(out), "--runtime", "tensorrt_rtx"]) == 0
    device = bundles.read(out).manifest.device
    assert device is not None
    assert (device.gpu, device.driver, device.cuda) == ("Host GPU", "580.65.06", "13.1")
    assert device.compute_capabilities == ("8.9",)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.usefixtures("gpu")
def test_on_its_gpu_a_plan_that_fails_its_golden_frames_is_not_there(
    make_bundle: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["build", str(make_bundle(golden_error=0.5)), "-o", str(tmp_path / "x.plan"), "--runtime", "tensorrt_rtx"]
    assert main(words) == 3
    assert "SELF_TEST_FAILED" in last_error(capfd)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def onnxruntime_gpu(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `gpu`, with an ONNX Runtime for it, whose plans are computed on the CPU: the networks are the plan's own."""

    def open_there(_device: object, graphs: Graphs, *_rest: object, **_asked: object) -> onnxruntime.OnnxRuntime:
        networks = {role: (replace(graph, format="onnx", source=None), data) for role, (graph, data) in graphs.items()}
        return onnxruntime.OnnxRuntime(networks, "f16", 1)

    monkeypatch.setattr(onnxruntime_cuda, "precisions", lambda: ("f32",))
    monkeypatch.setattr(inspector, "open_plan", open_there)


@pytest.mark.usefixtures("onnxruntime_gpu")
def test_onnx_runtime_gets_networks_of_f16_that_gave_the_golden_frames_their_scores(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ort.plan"
    words = ["build", str(tiny_bundle), "-o", str(out), "--runtime", "onnxruntime_cuda", "--precision", "f16"]
    assert main(words) == 0
    plan, lad = bundles.read(out), bundles.read(tiny_bundle)
    assert plan.manifest.device is not None
    assert (plan.manifest.device.runtime, plan.manifest.device.precision) == ("onnxruntime_cuda", "f16")
    assert onnx_of(plan) == onnx_of(lad)
    assert bytes(plan.graph_bytes("detector")) == to_half(onnx_of(lad))
    assert main(["unpack", str(out), str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detector.onnx", "detector.f16.onnx"}
    again = tmp_path / "again.plan"
    assert main(["build", str(out), "-o", str(again)]) == 0  # by the same runtime, which is not the default one
    assert again.read_bytes() == out.read_bytes()


@needs_no_gpu
def test_a_plan_of_onnx_runtime_is_refused_without_its_gpu(
    onnxruntime_gpu: None,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "ort.plan"
    words = ["build", str(tiny_bundle), "-o", str(out), "--runtime", "onnxruntime_cuda", "--precision", "f16"]
    assert main(words) == 0
    monkeypatch.undo()
    assert main(["bench", str(out)]) == 4
    said = last_error(capfd)
    assert "built for compute capability 8.9 by onnxruntime_cuda" in said
    assert f"lad-edge build {out} -o here.plan" in said


def test_info_shows_the_device(plan: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(plan)]) == 0
    text = capfd.readouterr().out
    device = bundles.read(plan).manifest.device
    assert device is not None
    for fact in ("f16 engines for compute capability 8.6, 8.9", f"tensorrt_rtx {device.version}", device.source_sha256):
        assert fact in text
    assert "detector: tensorrt_rtx" in text


def test_unpack_writes_the_engine_and_the_network(plan: Path, tmp_path: Path) -> None:
    assert main(["unpack", str(plan), str(tmp_path / "out")]) == 0
    read = bundles.read(plan)
    assert (tmp_path / "out" / "detector.plan").read_bytes() == bytes(read.graph_bytes("detector"))
    assert (tmp_path / "out" / "detector.onnx").read_bytes() == onnx_of(read)


@needs_no_gpu
@pytest.mark.parametrize(
    "verb",
    [["run", "--source", ".", "--engine"], ["run", "--check", "--source", ".", "--engine"], ["bench"]],
    ids=["run", "check", "bench"],
)
def test_a_plan_without_its_gpu_is_refused_with_the_command(
    plan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    (tmp_path / "0.png").write_bytes(b"never read")
    monkeypatch.chdir(tmp_path)
    assert main([*verb, str(plan)]) == 4
    said = last_error(capfd)
    assert "built for compute capability 8.6, 8.9 by tensorrt_rtx" in said
    assert "here: no NVIDIA driver" in said or "here: CUDA does not start" in said
    assert f"lad-edge build {plan} -o here.plan" in said


@needs_no_gpu
def test_without_a_gpu_build_asks_for_its_architecture(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(tiny_bundle), "-o", str(tmp_path / "x.plan")]) == 4
    assert "there is no GPU to build for" in last_error(capfd)
    assert not (tmp_path / "x.plan").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cross", "sm_90"], "TensorRT-RTX .* does not build for compute capability 9.0"),
        (["--cross", "sm_89", "--runtime", "tensorrt"], "TensorRT builds on the GPU itself"),
        (["--precision", "bf16"], "invalid choice: 'bf16'"),
        (["--runtime", "onnxruntime_cuda"], "runs a portable file in f32 as it is"),
        (["--runtime", "onnxruntime_cuda", "--precision", "f16", "--cross", "sm_90"], "ONNX Runtime builds on the GPU"),
    ],
)
def test_what_cannot_be_built_is_wrong_usage(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["build", str(tiny_bundle), "-o", str(tmp_path / "x.plan"), *words]) == 1
    assert re.search(message, last_error(capfd))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runtime", "openvino"], "--runtime openvino: .* was built for tensorrt_rtx"),
        (["--precision", "f32"], "--precision f32: .* was built for f16"),
    ],
)
def test_a_plan_runs_as_it_was_built_or_not_at_all(
    plan: Path, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["bench", str(plan), *words]) == 1
    assert re.search(message, last_error(capfd))


def test_a_lad_is_not_compiled_behind_the_back(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"tensorrt_rtx runs plans: .*lad-edge build"):
        Inspector(bundles.read(tiny_bundle), Options(runtime="tensorrt_rtx"))


@pytest.mark.parametrize(
    ("hidden", "words", "message"),
    [
        ("tensorrt_rtx", ["--cross", "sm_89"], "pip install 'lad-edge[tensorrt-rtx]'"),
        ("onnx", ["--cross", "sm_89", "--precision", "f16"], "needs onnx, which is not installed"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    tiny_bundle: Path, tmp_path: Path, hidden: str, words: list[str], message: str
) -> None:
    words = ["build", str(tiny_bundle), "-o", str(tmp_path / "x.plan"), *words]
    code = f"import sys; sys.modules['{hidden}'] = None\nfrom lad_edge.cli import main\nsys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr


def test_a_build_without_torch(tiny_bundle: Path, tmp_path: Path) -> None:
    words = ["build", str(tiny_bundle), "-o", str(tmp_path / "x.plan"), "--precision", "f16", "--cross", "sm_89"]
    code = f"import sys; sys.modules['torch'] = None\nfrom lad_edge.cli import main\nsys.exit(main({words!r}))"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert bundles.read(tmp_path / "x.plan").manifest.kind == "plan"
