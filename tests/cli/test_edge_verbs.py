"""The verbs of the edge on a real tiny bundle: run, info, unpack, calibrate, bench, doctor, demo."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from tiny import HEIGHT, WIDTH, good_picture, spotted_picture

from lad_edge import bundle as bundles
from lad_edge.cli import demo, main
from lad_edge.cli.arguments import duration_ms, keep_warm, keep_warm_s, size_px
from lad_edge.cli.trial import trial_network

MakeBundle = Callable[..., Path]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five good ones, a spot, a truncated one, a wrong size."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(5):
        cv2.imwrite(str(folder / f"{i}.png"), good_picture(i))
    cv2.imwrite(str(folder / "5.png"), spotted_picture(5))
    (folder / "6.jpg").write_bytes(cv2.imencode(".jpg", good_picture(6))[1].tobytes()[:700])
    cv2.imwrite(str(folder / "7.png"), good_picture(7, (HEIGHT, WIDTH + 1, 3)))
    return folder


def run(engine: Path, *words: object) -> int:
    return main(["run", "--engine", str(engine), *map(str, words)])


def test_run_judges_a_folder_and_keeps_everything(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, overlays = tmp_path / "r.jsonl", tmp_path / "overlays"
    words = ("--source", pictures, "--out", out, "--overlays", overlays, "--save", "ng,unknown")
    assert run(tiny_bundle, *words) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["frame_id"] for record in found] == [path.name for path in sorted(pictures.iterdir())]
    assert [record["verdict"] for record in found] == ["OK"] * 5 + ["NG", "UNKNOWN", "UNKNOWN"]
    assert [record["reasons"] for record in found[5:]] == [
        ["STRUCTURAL_ABOVE_LIMIT"],
        ["FRAME_INCOMPLETE"],
        ["FRAME_FORMAT"],
    ]
    assert sorted(path.name for path in overlays.iterdir()) == ["000006_NG_5.png.jpg", "000008_UNKNOWN_7.png.jpg"]
    shown = capfd.readouterr()
    assert [json.loads(line) for line in shown.out.splitlines()] == found  # a pipe gets JSON lines
    assert "8 parts: 5 OK, 1 NG, 2 UNKNOWN; 0 dropped" in shown.err
    assert "threshold" in shown.err


def test_run_speaks_to_a_person_when_asked(
    tiny_bundle: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_bundle, "--source", pictures, "--lines") == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[5].split()[:3] == ["6", "5.png", "NG"]


def test_run_says_nothing_when_quiet(tiny_bundle: Path, pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tiny_bundle, "--source", pictures, "--quiet") == 0
    assert capfd.readouterr().out == ""


def test_run_takes_the_threshold_of_the_user_and_says_so(
    tiny_bundle: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_bundle, "--source", pictures / "5.png", "--threshold", "1e6") == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out)["verdict"] == "OK"
    assert "given by --threshold" in shown.err


def test_run_converts_for_a_mono_contract_only_when_asked(
    make_bundle: MakeBundle, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = make_bundle(pixel_format="mono8")
    assert run(engine, "--source", pictures / "0.png") == 0
    assert json.loads(capfd.readouterr().out)["reasons"] == ["FRAME_FORMAT"]
    assert run(engine, "--source", pictures / "0.png", "--pixel-format", "mono8") == 0
    assert json.loads(capfd.readouterr().out)["verdict"] == "OK"


def test_run_with_a_deadline_that_nobody_can_keep_is_unknown(
    tiny_bundle: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_bundle, "--source", pictures / "0.png", "--deadline", "1us") == 0
    assert json.loads(capfd.readouterr().out)["reasons"] == ["DEADLINE"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--source", "nowhere"), 5, "does not exist"),
        (("--camera", "4711"), 5, "/dev/video4711"),
        (("--source", "ftp://x/y"), 1, "rtsp://"),
        (("--source", ".", "--out", "/nowhere/r.jsonl"), 5, "holds no image"),
    ],
)
def test_run_fails_with_one_line_and_its_exit_code(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(tiny_bundle, *words) == code
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("lad-edge: error: ")
    assert message in last


@pytest.mark.parametrize("out", ["/dev/full", "/nowhere/r.jsonl", "/"])
def test_run_with_results_that_cannot_be_kept_is_exit_code_6(
    tiny_bundle: Path, pictures: Path, capfd: pytest.CaptureFixture[str], out: str
) -> None:
    assert run(tiny_bundle, "--source", pictures, "--out", out, "--quiet") == 6
    assert capfd.readouterr().err.splitlines()[-1].startswith("lad-edge: error: ")


def test_run_does_not_start_with_an_engine_that_fails_its_self_test(
    make_bundle: MakeBundle, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(make_bundle(golden_error=0.5), "--source", pictures) == 3
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "SELF_TEST_FAILED" in shown.err


def test_info_shows_the_manifest_and_a_summary(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tiny_bundle)]) == 0
    text = capfd.readouterr().out
    for fact in ("64×48 px, bgr8", "n = 60", "image 1×3×32×32 → maps 1×2×8×8", "4 golden frames", "verified"):
        assert fact in text
    assert main(["info", str(tiny_bundle), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["manifest"]["contract"]["width"] == WIDTH
    assert document["sha256"] == bundles.read(tiny_bundle).sha256


def test_info_shows_what_the_networks_cost(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    opened = bundles.read(tiny_bundle)
    costs = {"detector": bundles.Cost(4_000_000, 1_234_000_000), "second": bundles.Cost(500_000, 6_000_000)}
    graph = opened.manifest.graphs["detector"]
    graphs = {role: replace(graph, cost=cost) for role, cost in costs.items()}
    bundles.write(tmp_path / "x.lad", replace(opened.manifest, graphs=graphs), opened.tensors)
    assert main(["info", str(tmp_path / "x.lad")]) == 0
    text = capfd.readouterr().out
    assert "4 M parameters, 1.234 GMAC, image 1×3×32×32" in text
    assert "together: 4.5 M parameters, 1.24 GMAC" in text
    assert main(["info", str(tiny_bundle)]) == 0
    assert "GMAC" not in capfd.readouterr().out
    assert main(["info", str(tmp_path / "x.lad"), "--json"]) == 0
    stated = json.loads(capfd.readouterr().out)["manifest"]["graphs"]["second"]["cost"]
    assert stated == {"parameters": 500_000, "macs": 6_000_000}


def test_unpack_writes_the_networks_and_overwrites_nothing(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["unpack", str(tiny_bundle), str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    (file,) = json.loads(capfd.readouterr().out)["files"]
    written = Path(file["path"]).read_bytes()
    assert written == bytes(bundles.read(tiny_bundle).graph_bytes("detector"))
    onnx.checker.check_model(onnx.load_from_string(written))
    Path(file["path"]).write_bytes(b"mine")
    assert main(words) == 6
    assert Path(file["path"]).read_bytes() == b"mine"


def test_unpack_does_not_follow_a_link_that_leads_nowhere(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "detector.onnx").symlink_to(tmp_path / "elsewhere")
    assert main(["unpack", str(tiny_bundle), str(tmp_path)]) == 6
    assert not (tmp_path / "elsewhere").exists()


def test_calibrate_changes_the_threshold_and_nothing_else(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.lad"
    assert main(["calibrate", str(tiny_bundle), "--policy", "conformal:10%", "-o", str(out), "--json"]) == 0
    change = json.loads(capfd.readouterr().out)["thresholds"]["f32"]
    old, new = bundles.read(tiny_bundle), bundles.read(out)
    scores = old.scores("f32")
    assert change["new"] == new.calibration("f32").threshold
    assert 0 < change["new"] - scores[54] <= 0.0011 * np.ptp(scores)  # just above the 55th of 60: ⌈61 · 0.9⌉
    assert change["statement"] == new.calibration("f32").policy.statement == "≤ 10 % of good parts are rejected, n = 60"
    assert change["old"] == old.calibration("f32").threshold
    assert {name: array.tobytes() for name, array in old.tensors.items()} == {
        name: array.tobytes() for name, array in new.tensors.items()
    }


def test_calibrate_in_place_is_what_run_uses(
    tiny_bundle: Path, tmp_path: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = tmp_path / "engine.lad"
    shutil.copy(tiny_bundle, engine)
    assert main(["calibrate", str(engine), "--policy", "fixed:1e6"]) == 0
    assert run(engine, "--source", pictures / "5.png") == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["verdict"] == "OK"


def test_calibrate_does_not_weaken_a_promise_that_it_cannot_keep(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.lad"
    assert main(["calibrate", str(tiny_bundle), "--policy", "conformal:1%", "-o", str(out)]) == 2
    assert "99 good images; came 60, 39 are missing" in capfd.readouterr().err
    assert not out.exists()


@pytest.fixture
def good_parts(tmp_path: Path) -> Path:
    """Twenty good parts of a darker and noisier camera."""
    folder = tmp_path / "good"
    folder.mkdir()
    for i in range(20):
        cv2.imwrite(str(folder / f"{i:02}.png"), (good_picture(100 + i) * 0.9).astype(np.uint8))
    return folder


def test_calibrate_measures_good_parts_by_the_engine_that_runs_here(
    tiny_bundle: Path, tmp_path: Path, good_parts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.lad"
    words = ["calibrate", str(tiny_bundle), "--policy", "quantile:0.5", "--good", str(good_parts), "-o", str(out)]
    assert main([*words, "--precision", "f32"]) == 0
    assert "n = 20" in capfd.readouterr().out
    old, new = bundles.read(tiny_bundle), bundles.read(out)
    scores = new.scores("f32")
    assert len(scores) == 20
    assert scores[9] <= new.calibration("f32").threshold <= scores[10] + 1e-3 * np.ptp(scores)
    assert len(new.tensors) == len(old.tensors)
    assert run(out, "--source", good_parts) == 0
    verdicts = [json.loads(line)["verdict"] for line in capfd.readouterr().out.splitlines()]
    assert verdicts.count("OK") == 10


def test_calibrate_takes_no_picture_that_cannot_be_judged(
    tiny_bundle: Path, tmp_path: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["calibrate", str(tiny_bundle), "--policy", "quantile:0.5", "--good", str(pictures)]
    assert main([*words, "-o", str(tmp_path / "new.lad")]) == 2
    assert "6.jpg cannot be judged" in capfd.readouterr().err
    assert not (tmp_path / "new.lad").exists()


def test_bench_measures_each_stage_and_the_bare_engine(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["bench", str(tiny_bundle), "--frames", "12", "--warmup", "2", "--interval", "0,1ms", "--json"]
    assert main(words) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["golden_frames_checked"] == 4
    assert document["machine"]
    assert [run["interval_ms"] for run in document["runs"]] == [0, 1]
    stages = document["runs"][0]["stages_us"]
    assert set(stages) == {"wait", "pre", "infer", "post", "total", "overhead", "bare engine"}
    for figures in stages.values():
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"] <= figures["max"]
    assert stages["total"]["max"] >= stages["infer"]["p50"]


def test_bench_keeps_the_engine_warm_in_the_pauses(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["bench", str(tiny_bundle), "--frames", "3", "--warmup", "1", "--interval", "9ms", "--keep-warm", "2ms"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["keep_warm_ms"] == 2
    assert document["runs"][0]["frames"] == 3


@pytest.mark.parametrize(
    ("words", "runtime", "seconds"),
    [
        ("auto", "openvino", None),
        ("auto", "tensorrt", 0.02),
        ("auto", "onnxruntime_cuda", 0.02),
        ("off", "tensorrt_rtx", None),
        ("5ms", "openvino", 0.005),
    ],
)
def test_auto_keeps_only_gpus_warm(words: str, runtime: str, seconds: float | None) -> None:
    assert keep_warm_s(keep_warm(words), runtime) == seconds


def test_bench_scales_pictures_only_for_a_contract_that_takes_any_size(
    tiny_bundle: Path, make_bundle: MakeBundle, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--frames", "2", "--warmup", "1", "--size", "128x96", "--source", str(pictures)]
    assert main(["bench", str(tiny_bundle), *words]) == 1
    assert "64×48" in capfd.readouterr().err
    assert main(["bench", str(make_bundle(geometry=(None, None))), *words]) == 0
    assert "frames 128×96 px" in capfd.readouterr().out


def test_doctor_tries_everything_on_this_machine(capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    document = json.loads(capfd.readouterr().out)
    status = {finding["name"]: finding["status"] for finding in document["findings"]}
    assert code == (0 if document["healthy"] else 1)
    assert {"machine", "cpu", "opencv", "openvino", "onnxruntime", "kernels", "cameras", "disk"} <= set(status)
    assert status["kernels"] == status["openvino"] == status["onnxruntime"] == status["opencv"] == "ok"
    assert all(finding["remedy"] for finding in document["findings"] if finding["status"] != "ok")


def test_doctor_reports_a_kernel_that_computes_something_else(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lad_edge.kernels import reference

    meant = reference.preprocess
    monkeypatch.setattr(reference, "preprocess", lambda *args, **how: meant(*args, **how) + 0.01)
    assert main(["doctor", "--json"]) == 1
    findings = json.loads(capfd.readouterr().out)["findings"]
    assert [finding["name"] for finding in findings if finding["status"] == "fail"] == ["kernels"]


def test_the_trial_network_is_the_onnx_that_it_claims_to_be() -> None:
    model = onnx.load_from_string(trial_network((1, 5, 5)))
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).standard_normal((1, 5, 5)).astype(np.float32)
    (y,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(y, np.maximum(x @ x, 0), rtol=1e-6)


@pytest.fixture
def demo_assets(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small assets of the shipped form: engine, video, truth (in which one good part is called bad)."""
    folder = tmp_path / "assets"
    folder.mkdir()
    shutil.copy(tiny_bundle, folder / "demo.lad")
    writer = cv2.VideoWriter(str(folder / "demo.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 100)
    for i in range(6):
        writer.write(spotted_picture(i) if i == 2 else good_picture(i))
    writer.release()
    labels = ["good", "good", "structural_anomalies", "good", "logical_anomalies", "good"]
    truth = [{"frame": i, "label": label, "defect_type": ""} for i, label in enumerate(labels)]
    (folder / "demo.json").write_text(json.dumps({"frames": truth}))
    monkeypatch.setattr(demo, "files", lambda _package: folder)
    return folder


def test_demo_compares_with_the_truth_and_can_be_repeated(
    demo_assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["demo"]) == 0
        shown = capfd.readouterr()
        assert "  4 of   4 good parts judged OK" in shown.out
        assert "  1 of   1 structural_anomalies parts judged NG" in shown.out
        assert "  0 of   1 logical_anomalies parts judged NG" in shown.out
        assert "part 5 (logical_anomalies) was judged OK" in shown.out
        files = sorted(path.name for path in Path("demo-output").iterdir())
        assert files == ["000003_NG_demo.avi-3.jpg", "results.jsonl"]
        assert len(Path("demo-output/results.jsonl").read_text().splitlines()) == 6


def test_demo_speaks_json(demo_assets: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json", "--out", str(tmp_path / "out")]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["summary"]["verdicts"] == {"OK": 5, "NG": 1, "UNKNOWN": 0}
    assert document["truth"]["labels"]["good"] == {"parts": 4, "right": 4}
    assert [part["seq"] for part in document["truth"]["wrong"]] == [5]


def test_demo_teaches_an_engine_from_the_first_good_parts_and_judges_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["demo", "--teach", "--json", "--precision", "f32", "--threads", "1", "--out", str(out)]) == 0
    shown = capfd.readouterr()
    labels = json.loads(shown.out)["truth"]["labels"]
    assert f"taught {demo.TAUGHT_PARTS} good trays in " in shown.err
    assert (labels["good"]["parts"], labels["logical_anomalies"]["parts"]) == (12, 16)
    assert labels["good"]["right"] >= 10
    assert labels["logical_anomalies"]["right"] >= 8
    parts = json.loads((files("lad_edge.assets") / "demo.json").read_text())["frames"]
    taught = [f"demo.avi#{index + 1}" for index, part in enumerate(parts) if part["label"] == "good"]
    assert bundles.read(out / "taught.lad").manifest.parameters["parts"] == taught[: demo.TAUGHT_PARTS]


def test_demo_without_its_files_says_what_is_missing(demo_assets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (demo_assets / "demo.lad").unlink()
    assert main(["demo"]) == 2
    assert "demo.lad is missing" in capfd.readouterr().err


@pytest.mark.parametrize(("text", "value"), [("50ms", 50), ("1.5s", 1500), ("200us", 0.2), ("0", 0), ("2min", 120000)])
def test_a_time_has_a_unit(text: str, value: float) -> None:
    assert duration_ms(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["5", "-1s", "s", "1h", "", "1e3ms"])
def test_a_time_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration_ms(text)


@pytest.mark.parametrize("text", ["0x5", "5x0", "5", "x", "5x-5"])
def test_a_size_without_pixels_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        size_px(text)
