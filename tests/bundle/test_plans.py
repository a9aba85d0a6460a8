"""A plan is a bundle of engines with their device and the ONNX beside them; what is neither lad nor plan is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_samples import (
    ENGINE,
    plan_manifest,
    plan_tensors,
    sample_manifest,
    sample_tensors,
    small_onnx,
    with_manifest,
)

from lad_edge import bundle
from lad_edge.errors import BundleError

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    bundle.write(tmp_path / "sample.plan", plan_manifest(), plan_tensors())
    return tmp_path / "sample.plan"


def test_a_plan_gives_its_engines_its_device_and_what_they_were_built_from(plan: Path) -> None:
    read = bundle.read(plan)
    assert read.manifest.device == plan_manifest().device
    graph, engine = read.graphs()["main"]
    assert (graph.format, bytes(engine)) == ("tensorrt_rtx", ENGINE)
    graph, onnx = read.sources()["main"]
    assert graph == replace(sample_manifest().graphs["main"], tensor="onnx/main")
    assert bytes(onnx) == small_onnx()


def test_a_plan_is_written_again_to_the_same_bytes(plan: Path, tmp_path: Path) -> None:
    read = bundle.read(plan)
    assert bundle.write(tmp_path / "again.plan", read.manifest, read.tensors) == read.sha256


def test_a_plan_keeps_what_was_compiled_on_its_gpu(plan: Path, tmp_path: Path) -> None:
    assert bundle.read(plan).caches() == {}
    compiled = {**plan_tensors(), "cache/main": np.arange(9, dtype=np.uint8)}
    bundle.write(tmp_path / "x.plan", plan_manifest(caches={"main": "cache/main"}), compiled)
    assert bytes(bundle.read(tmp_path / "x.plan").caches()["main"]) == bytes(range(9))


def test_a_lad_has_no_key_of_a_plan_and_is_its_own_source(tmp_path: Path) -> None:
    bundle.write(tmp_path / "sample.lad", sample_manifest(), sample_tensors())
    read = bundle.read(tmp_path / "sample.lad")
    manifest: Any = read.manifest.to_json()
    assert "device" not in manifest
    assert "source" not in manifest["graphs"]["main"]
    assert read.sources() == read.graphs()


def test_no_byte_of_a_plan_can_change_before_its_engine_is_given_away(plan: Path) -> None:
    data = plan.read_bytes()
    engine = range(data.index(ENGINE), data.index(ENGINE) + len(ENGINE))
    for at in (*engine, *range(0, len(data), 11)):
        with pytest.raises(
            BundleError, match=r"^E_BUNDLE_TENSOR_HASH: .*'graph/main'" if at in engine else "^E_BUNDLE_"
        ):
            bundle.loads(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


REWRITTEN: dict[str, tuple[Change, str]] = {
    "no device": (lambda m: m.pop("device"), "MANIFEST: .*'device' is missing"),
    "unknown key": (lambda m: m["device"].update(fan="loud"), "UNKNOWN_KEY: .*'device.fan'"),
    "missing key": (lambda m: m["device"].pop("precision"), "MANIFEST: .*'device.precision' is missing"),
    "runtime": (lambda m: m["device"].update(runtime="tvm"), "MANIFEST: .*'device.runtime'.*tensorrt, tensorrt_rtx"),
    "other flavour": (lambda m: m["device"].update(runtime="tensorrt"), "MANIFEST: .*expected tensorrt in this plan"),
    "number for text": (lambda m: m["device"].update(compute_capabilities=[8.9]), "MANIFEST: .*compute_capabilities"),
    "no target": (lambda m: m["device"].update(compute_capabilities=[]), "MANIFEST: .*compute_capabilities"),
    "source hash": (lambda m: m["device"].update(source_sha256="F" * 64), "MANIFEST: .*'device.source_sha256'"),
    "a cache of nothing": (lambda m: m["device"].update(caches={"x": "tables/half"}), "MANIFEST: .*'device.caches'"),
    "a lost cache": (lambda m: m["device"].update(caches={"main": "x"}), "MANIFEST: .*'device.caches.main'"),
    "a cache of floats": (lambda m: m["device"].update(caches={"main": "tables/half"}), "SHAPE: .*as U8"),
    "two lines": (lambda m: m["device"].update(gpu="a\nb"), "MANIFEST: .*'device.gpu'.*one line"),
    "precision": (lambda m: m["device"].update(precision="f16"), "MANIFEST: .*'calibrations.f16' is missing"),
    "no source": (lambda m: m["graphs"]["main"].pop("source"), "MANIFEST: .*'graphs.main.source' is missing"),
    "lost source": (lambda m: m["graphs"]["main"].update(source="x"), "MANIFEST: .*'graphs.main.source'.*tensor 'x'"),
    "a lad with engines": (lambda m: (m.update(kind="lad"), m.pop("device")), "MANIFEST: .*expected onnx in this lad"),
    "a lad with a device": (lambda m: m.update(kind="lad"), "UNKNOWN_KEY: .*'device'"),
    "onnx for an engine": (lambda m: m["graphs"]["main"].update(tensor="onnx/main"), "GRAPH: .*expected an engine"),
    "engine for onnx": (lambda m: m["graphs"]["main"].update(source="graph/main"), "GRAPH: .*'main' is refused"),
}


@pytest.mark.parametrize(("change", "message"), REWRITTEN.values(), ids=REWRITTEN)
def test_a_rewritten_plan_with_a_right_hash_is_still_checked(plan: Path, change: Change, message: str) -> None:
    with pytest.raises(BundleError, match=f"^E_BUNDLE_{message}"):
        bundle.loads(with_manifest(plan.read_bytes(), change))


def test_the_onnx_beside_the_engine_must_have_the_stated_shapes(tmp_path: Path) -> None:
    tensors = {**plan_tensors(), "onnx/main": np.frombuffer(small_onnx(channels=3), np.uint8)}
    with pytest.raises(BundleError, match=r"SHAPE: .*the outputs should be map \(1, 2, 8, 8\)"):
        bundle.write(tmp_path / "x.plan", plan_manifest(), tensors)


def test_a_plan_with_another_threshold_keeps_its_engines(plan: Path) -> None:
    before = bundle.read(plan)
    policy = replace(before.calibration("f32").policy, statement="set by hand")
    bundle.replace_threshold(plan, plan, {"f32": (9.0, policy)})
    after = bundle.read(plan)
    assert after.calibration("f32").threshold == 9.0
    assert after.manifest.device == before.manifest.device
    assert bytes(after.graph_bytes("main")) == ENGINE


def test_new_scores_of_a_precision_leave_those_of_the_others(tmp_path: Path) -> None:
    manifest = plan_manifest(precision="f16")
    shared = {"f16": manifest.calibrations["f32"], **manifest.calibrations}
    golden = replace(manifest.golden, tolerance={"f32": 1e-3, "f16": 2e-2})
    path = tmp_path / "x.plan"
    bundle.write(path, replace(manifest, calibrations=shared, golden=golden), plan_tensors())
    before, scores = bundle.read(path), np.array([0.25, 0.5])
    policy = replace(before.calibration("f16").policy, n=2)
    bundle.replace_threshold(path, path, {"f16": (0.5, policy)}, {"f16": scores})
    after = bundle.read(path)
    np.testing.assert_array_equal(after.scores("f16"), scores)
    np.testing.assert_array_equal(after.scores("f32"), before.scores("f32"))
    assert after.calibration("f32") == before.calibration("f32")
