"""The bundle: what is written is what is read, and what does not fit is refused with its name."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bundle_samples import sample_calibration, sample_manifest, sample_tensors, small_onnx, with_manifest
from safetensors.numpy import load_file, save_file

from lad_edge import bundle
from lad_edge.bundle import Golden, Graph, Policy
from lad_edge.bundle.fields import canonical_json
from lad_edge.bundle.layout import METADATA_KEYS, build_header
from lad_edge.errors import BundleError, EngineError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.lad"
    bundle.write(path, sample_manifest(), sample_tensors())
    return path


def test_what_was_written_is_read_back(sample: Path) -> None:
    read = bundle.read(sample)
    tensors = sample_tensors()
    assert replace(read.manifest, tensors={}) == sample_manifest()
    assert read.tensors.keys() == tensors.keys()
    for name, expected in tensors.items():
        np.testing.assert_array_equal(read.tensors[name], expected, strict=True)
    assert read.sha256 == hashlib.sha256(sample.read_bytes()).hexdigest()
    assert read.path == sample


def test_tensors_are_read_only_aligned_views(sample: Path) -> None:
    for array in bundle.read(sample).tensors.values():
        assert array.flags.aligned
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_the_manifest_is_frozen(sample: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        bundle.read(sample).manifest.calibrations["f32"].threshold = 9.0  # type: ignore[misc]


def test_accessors_find_graphs_and_calibrations(sample: Path) -> None:
    read = bundle.read(sample)
    assert bytes(read.graph_bytes("main")) == small_onnx()
    graph, data = read.graphs()["main"]
    assert graph.outputs == {"map": (1, 2, 8, 8)}
    assert len(data) == len(small_onnx())
    assert read.calibration("f32").threshold == 0.75
    np.testing.assert_array_equal(read.scores("f32"), sample_tensors()["scores.f32"])
    np.testing.assert_array_equal(read.golden_scores("f32"), sample_tensors()["golden/scores.f32"])
    np.testing.assert_array_equal(read.golden_frames, sample_tensors()["golden/frames"])
    with pytest.raises(EngineError, match="calibrated for f32, not for bf16"):
        read.calibration("bf16")
    with pytest.raises(EngineError, match="no graph 'other'; it has main"):
        read.graph_bytes("other")


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors = sample_tensors()
    backwards = {name: np.asfortranarray(tensors[name]) for name in reversed(tensors)}
    first = bundle.write(tmp_path / "a.lad", sample_manifest(), tensors)
    second = bundle.write(tmp_path / "b.lad", sample_manifest(), backwards)
    assert first == second
    assert (tmp_path / "a.lad").read_bytes() == (tmp_path / "b.lad").read_bytes()


def test_a_manifest_read_from_a_bundle_can_be_written_again(sample: Path, tmp_path: Path) -> None:
    read = bundle.read(sample)
    assert bundle.write(tmp_path / "copy.lad", read.manifest, read.tensors) == read.sha256


def test_standard_tools_read_the_file(sample: Path) -> None:
    loaded = load_file(sample)
    for name, expected in sample_tensors().items():
        np.testing.assert_array_equal(loaded[name], expected)


def test_the_manifest_as_json_is_plain(sample: Path) -> None:
    value = bundle.read(sample).manifest.to_json()
    assert json.loads(canonical_json(value)) == value
    assert value["format_version"] == 1
    assert tuple(value) >= ("name",)


def test_loads_checks_bytes_in_memory(sample: Path) -> None:
    assert bundle.loads(sample.read_bytes()).sha256 == bundle.read(sample).sha256
    with pytest.raises(BundleError, match=r"^E_BUNDLE_FOREIGN: <memory>: .*empty file"):
        bundle.loads(b"")


# thresholds


def test_a_threshold_changes_without_export(sample: Path, tmp_path: Path) -> None:
    policy = Policy("fixed", 1.5, 0, "set by hand")
    out = tmp_path / "out.lad"
    sha256 = bundle.replace_threshold(sample, out, {"f32": (1.5, policy)})
    before, after = bundle.read(sample), bundle.read(out)
    assert after.sha256 == sha256 != before.sha256
    assert after.calibration("f32") == replace(before.calibration("f32"), threshold=1.5, policy=policy)
    assert after.manifest.graphs == before.manifest.graphs
    assert after.manifest.tensors == before.manifest.tensors


def test_a_threshold_changes_in_place(sample: Path) -> None:
    bundle.replace_threshold(sample, sample, {"f32": (1.25, Policy("fixed", 1.25, 0, ""))})
    assert bundle.read(sample).calibration("f32").threshold == 1.25
    assert list(sample.parent.iterdir()) == [sample]


def test_a_threshold_for_an_unknown_precision_is_refused(sample: Path) -> None:
    with pytest.raises(EngineError, match="not for int8"):
        bundle.replace_threshold(sample, sample, {"int8": (1.0, Policy("fixed", 1.0, 0, ""))})


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf")])
def test_a_threshold_that_is_not_finite_is_refused(sample: Path, threshold: float) -> None:
    before = sample.read_bytes()
    with pytest.raises(BundleError, match=r"E_BUNDLE_MANIFEST.*'calibrations.f32.threshold'.*finite"):
        bundle.replace_threshold(sample, sample, {"f32": (threshold, Policy("fixed", 0.0, 0, ""))})
    assert sample.read_bytes() == before


# manifests that do not hold


NAN = float("nan")
BAD_MANIFESTS = {
    "nan in the metrics": ({"metrics": {"a": [NAN]}}, r"MANIFEST.*metrics\.a\[0\].*finite"),
    "too deep": ({"parameters": {"a": [[[[[[[[1]]]]]]]]}}, "MANIFEST.*nested deeper than 8"),
    "not json": ({"parameters": {"a": object()}}, "MANIFEST.*'parameters.a'.*expected a number"),
    "number as key": ({"parameters": {1: 2}}, "MANIFEST.*key 1"),
    "huge integer": ({"parameters": {"a": 1 << 60}}, r"MANIFEST.*2\^53"),
    "no graphs": ({"graphs": {}}, "MANIFEST.*'graphs'.*at least one"),
    "no calibration": ({"calibrations": {}}, "MANIFEST.*'calibrations'.*at least one"),
    "unknown precision": ({"calibrations": {"f8": sample_calibration()}}, "MANIFEST.*'calibrations.f8'"),
    "no tolerance": ({"golden": Golden("golden/frames", {"bf16": 0.1})}, "MANIFEST.*'golden.tolerance.f32'"),
    "tolerance of nothing": ({"golden": Golden("golden/frames", {"f32": 0.0})}, "MANIFEST.*'golden.tolerance.f32'"),
    "future version": ({"format_version": 7}, "VERSION.*version 7; this program reads version 1"),
    "kind": ({"kind": "jet"}, "VERSION.*kind 'jet'"),
    "name with a path": ({"name": "../x"}, "MANIFEST.*'name'"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_MANIFESTS.values(), ids=BAD_MANIFESTS)
def test_a_manifest_that_does_not_hold_is_not_written(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BundleError, match=f"^E_BUNDLE_{message}"):
        bundle.write(tmp_path / "bad.lad", sample_manifest(**changes), sample_tensors())
    assert list(tmp_path.iterdir()) == []


BAD_CALIBRATIONS = {
    "low above high": (
        {"normalisation": {"logical": (0.5, 0.5)}},
        "MANIFEST.*'calibrations.f32.normalisation.logical'",
    ),
    "nan range": ({"normalisation": {"logical": (NAN, 0.5)}}, "MANIFEST.*normalisation.logical.*finite"),
    "envelope": ({"envelope": (2.0, 1.0)}, "MANIFEST.*'calibrations.f32.envelope'"),
    "policy": ({"policy": Policy("guess", 0.0, 0, "")}, "MANIFEST.*'calibrations.f32.policy.name'.*conformal"),
    "no such tensor": ({"scores": "nowhere"}, "MANIFEST.*'calibrations.f32.scores'.*'nowhere'"),
    "scores of another type": ({"scores": "tables/single"}, "SHAPE.*expected F64"),
    "a score too few": ({"golden_scores": "scores.f32"}, "SHAPE.*expected 2 floats"),
    "places of another shape": ({"places": "tables/single"}, r"SHAPE.*places': expected F32 \(2, 1, h, w\)"),
    "no such places": ({"places": "nowhere"}, "MANIFEST.*'calibrations.f32.places'.*'nowhere'"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_CALIBRATIONS.values(), ids=BAD_CALIBRATIONS)
def test_a_calibration_that_does_not_hold_is_not_written(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    manifest = sample_manifest(calibrations={"f32": sample_calibration(**changes)})
    with pytest.raises(BundleError, match=f"^E_BUNDLE_{message}"):
        bundle.write(tmp_path / "bad.lad", manifest, sample_tensors())


@pytest.mark.parametrize(("scale", "message"), [(0.0, "scales above 0"), (NAN, "finite means and scales")])
def test_places_that_would_silence_the_maps_are_not_written(tmp_path: Path, scale: float, message: str) -> None:
    places = np.ones((2, 1, 4, 4), np.float32)
    places[1, 0, 2, 3] = scale
    manifest = sample_manifest(calibrations={"f32": sample_calibration(places="places")})
    with pytest.raises(BundleError, match=f"^E_BUNDLE_MANIFEST.*{message}"):
        bundle.write(tmp_path / "bad.lad", manifest, sample_tensors() | {"places": places})


BAD_CONTRACTS = {
    "half a geometry": ({"width": None}, "both or neither"),
    "roi outside": ({"roi": (3, 0, 8, 6)}, "leaves the frame of 10x6"),
    "roi without area": ({"roi": (3, 0, 0, 6)}, "'contract.roi'"),
    "std of zero": ({"std": (0.2, 0.0, 0.2)}, "'contract.std'"),
    "mean of two": ({"mean": (0.2, 0.2)}, "'contract.mean'.*list of 3"),
    "pixel format": ({"pixel_format": "yuv"}, "'contract.pixel_format'.*bgr8, rgb8, mono8"),
    "another filter": ({"resize": "nearest"}, "'contract.resize'"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_CONTRACTS.values(), ids=BAD_CONTRACTS)
def test_a_contract_that_does_not_hold_is_not_written(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    manifest = sample_manifest(contract=replace(sample_manifest().contract, **changes))  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=f"^E_BUNDLE_MANIFEST.*{message}"):
        bundle.write(tmp_path / "bad.lad", manifest, sample_tensors())


@pytest.mark.parametrize("size", [(8, 9), (16, 16)])
def test_the_contract_must_make_what_the_graph_takes(tmp_path: Path, size: tuple[int, int]) -> None:
    manifest = sample_manifest(contract=replace(sample_manifest().contract, size=size))
    with pytest.raises(BundleError, match=r"^E_BUNDLE_SHAPE.*input 'image' is \(1, 3, 8, 8\), the contract makes"):
        bundle.write(tmp_path / "bad.lad", manifest, sample_tensors())


def test_stated_shapes_must_be_those_of_the_onnx(tmp_path: Path) -> None:
    graph = Graph("graph/main", "onnx", {"image": (1, 3, 8, 8)}, {"map": (1, 5, 8, 8)})
    with pytest.raises(BundleError, match=r"^E_BUNDLE_SHAPE.*map \(1, 5, 8, 8\), the ONNX has map \(1, 2, 8, 8\)"):
        bundle.write(tmp_path / "bad.lad", sample_manifest(graphs={"main": graph}), sample_tensors())


BAD_TENSORS = {
    "rising scores": ({"scores.f32": np.array([0.2, 0.1])}, "MANIFEST.*rising order"),
    "nan scores": ({"scores.f32": np.array([0.2, NAN])}, "MANIFEST.*finite"),
    "nan golden": ({"golden/scores.f32": np.array([0.2, NAN])}, "MANIFEST.*golden_scores.*finite"),
    "frames of another size": (
        {"golden/frames": np.zeros((2, 7, 10, 3), np.uint8)},
        r"SHAPE.*expected U8 \(N, 6, 10, 3\)",
    ),
    "grey frames": ({"golden/frames": np.zeros((2, 6, 10), np.uint8)}, "SHAPE.*golden frames"),
    "float frames": ({"golden/frames": np.zeros((2, 6, 10, 3), np.float32)}, "SHAPE.*golden frames"),
    "graph of two dimensions": ({"graph/main": np.zeros((2, 2), np.uint8)}, "SHAPE.*'graphs.main.tensor'"),
    "graph of noise": ({"graph/main": np.full(99, 0x77, np.uint8)}, "GRAPH.*graph 'main' is refused"),
    "complex": ({"x": np.zeros(2, np.complex64)}, "SHAPE.*complex64; convert it first"),
    "big-endian": ({"x": np.zeros(2, ">f4")}, "SHAPE.*>f4; convert it first"),
    "nothing": ({"x": np.zeros((0, 3), np.float32)}, "SHAPE.*1 or more values"),
    "nine dimensions": ({"x": np.zeros((1,) * 9, np.float32)}, "SHAPE.*at most 8 dimensions"),
    "too many": ({f"x{i}": np.zeros(1, np.uint8) for i in range(1025)}, "SIZE.*at most 1024"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_tensors_that_do_not_fit_are_not_written(
    tmp_path: Path, changes: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], message: str
) -> None:
    with pytest.raises(BundleError, match=f"^E_BUNDLE_{message}"):
        bundle.write(tmp_path / "bad.lad", sample_manifest(), sample_tensors() | changes)


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a b", "a\\b", "é", "a" * 65, "__metadata__"]
)
def test_tensor_names_that_look_like_paths_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=r"^E_BUNDLE_MANIFEST.*tensor name"):
        bundle.write(tmp_path / "bad.lad", sample_manifest(), sample_tensors() | {name: np.zeros(1)})


def test_a_mono_contract_takes_grey_frames(tmp_path: Path) -> None:
    contract = replace(sample_manifest().contract, pixel_format="mono8", width=None, height=None, roi=None)
    tensors = sample_tensors() | {"golden/frames": np.zeros((2, 40, 30), np.uint8)}
    bundle.write(tmp_path / "mono.lad", sample_manifest(contract=contract), tensors)
    assert bundle.read(tmp_path / "mono.lad").golden_frames.shape == (2, 40, 30)


def test_a_manifest_over_the_header_cap_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^E_BUNDLE_SIZE.*keep less in the manifest"):
        bundle.write(tmp_path / "bad.lad", sample_manifest(metrics={"a": ["x" * 1000] * 1100}), sample_tensors())


# files of other programs and versions


def drop_mean(manifest: dict[str, dict[str, object]]) -> None:
    del manifest["contract"]["mean"]


REWRITTEN = {
    "unknown key": (lambda m: m["contract"].update(colour="red"), "UNKNOWN_KEY: .*'contract.colour'"),
    "unknown cost": (
        lambda m: m["graphs"]["main"]["cost"].update(joules=1),
        "UNKNOWN_KEY: .*'graphs.main.cost.joules'",
    ),
    "missing cost": (lambda m: m["graphs"]["main"].pop("cost"), "MANIFEST: .*'graphs.main.cost' is missing"),
    "negative cost": (lambda m: m["graphs"]["main"]["cost"].update(macs=-1), "MANIFEST: .*'graphs.main.cost.macs'"),
    "unknown key at the top": (lambda m: m.update(sequence=4), "UNKNOWN_KEY: .*'sequence'"),
    "missing key": (drop_mean, "MANIFEST: .*'contract.mean' is missing"),
    "another type": (lambda m: m["golden"].update(frames=3), "MANIFEST: .*'golden.frames'.*expected text"),
    "bool for a number": (lambda m: m["calibrations"]["f32"].update(threshold=True), "MANIFEST: .*threshold.*bool"),
    "null threshold": (lambda m: m["calibrations"]["f32"].update(threshold=None), "MANIFEST: .*threshold"),
    "nan threshold": (lambda m: m["calibrations"]["f32"].update(threshold=NAN), "MANIFEST: .*NaN is not a JSON value"),
    "infinite threshold": (lambda m: m["calibrations"]["f32"].update(threshold=1e400), "MANIFEST: .*Infinity"),
    "future version": (
        lambda m: m.update(format_version=2, news=1),
        "VERSION: .*version 2; .*version 1: update lad-edge",
    ),
    "old version": (lambda m: m.update(format_version=0), "VERSION: .*version 0; .*export the detector again"),
    "upper-case hash": (lambda m: m["tensors"]["scores.f32"].update(sha256="A" * 64), "MANIFEST: .*lower-case"),
    "wrong hash": (lambda m: m["tensors"]["scores.f32"].update(sha256="a" * 64), "TENSOR_HASH: .*'scores.f32'"),
    "larger tensor": (lambda m: m["tensors"]["scores.f32"].update(shape=[21]), "SIZE: .*bytes of tensors"),
    "2^62 values": (lambda m: m["tensors"]["scores.f32"].update(shape=[2**31, 2**31]), "SIZE: .*bytes of tensors"),
    "scores renamed": (lambda m: m["calibrations"]["f32"].update(scores="x"), "MANIFEST: .*tensor 'x'"),
}


@pytest.mark.parametrize(("change", "message"), REWRITTEN.values(), ids=REWRITTEN)
def test_a_rewritten_manifest_with_a_right_hash_is_still_checked(sample: Path, change: object, message: str) -> None:
    data = with_manifest(sample.read_bytes(), change)
    with pytest.raises(BundleError, match=f"^E_BUNDLE_{message}"):
        bundle.loads(data)


def test_costs_that_nobody_counted_are_none(sample: Path) -> None:
    data = with_manifest(sample.read_bytes(), lambda manifest: manifest["graphs"]["main"].update(cost=None))
    assert bundle.loads(data).manifest.graphs["main"].cost is None


def test_the_rewriting_helper_itself_is_accepted_when_nothing_changes(sample: Path) -> None:
    assert with_manifest(sample.read_bytes(), lambda manifest: None) == sample.read_bytes()


@pytest.mark.parametrize(("key", "code"), [("lad_edge_signature", "SIGNATURE"), ("lad_edge_device_mac", "MAC")])
def test_a_signature_that_cannot_be_checked_is_refused(sample: Path, key: str, code: str) -> None:
    data = sample.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    metadata = json.loads(data[8 : 8 + length])["__metadata__"] | {key: "ab" * 32}
    signed = build_header(metadata, bundle.read(sample).manifest.tensors) + data[8 + length :]
    with pytest.raises(BundleError, match=f"^E_BUNDLE_{code}: .*this version cannot check"):
        bundle.loads(signed)


@pytest.mark.parametrize("key", METADATA_KEYS)
def test_metadata_has_exactly_our_keys(sample: Path, key: str) -> None:
    tensors = {"x": np.zeros(2, np.float32)}
    metadata = dict.fromkeys(METADATA_KEYS, "")
    del metadata[key]
    save_file(tensors, sample, metadata=metadata)
    with pytest.raises(BundleError, match=f"^E_BUNDLE_HEADER: .*'{key}' is missing"):
        bundle.read(sample)


def test_every_message_is_one_line_with_the_file_name(sample: Path) -> None:
    sample.write_bytes(sample.read_bytes()[:-1])
    with pytest.raises(BundleError) as caught:
        bundle.read(sample)
    assert "\n" not in str(caught.value)
    assert str(sample) in str(caught.value)


FOREIGN = {
    "empty": (b"", "empty file"),
    "onnx": (small_onnx(), "ONNX graph"),
    "torch": (b"PK\x03\x04" + bytes(60), "zip archive, such as a torch checkpoint"),
    "pickle": (b"\x80\x04\x95" + bytes(60), "pickle"),
    "engine": (b"ftrt" + bytes(range(60)), "TensorRT engine"),
    "engine of TensorRT-RTX": (b"vtrt" + bytes(range(60)), "TensorRT engine"),
    "video": (b"RIFF\x24\x00\x00\x00AVI LIST" + bytes(40), "AVI video"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(60), "PNG image"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(60), "JPEG image"),
    "mp4": (b"\x00\x00\x00\x20ftypisom" + bytes(60), "MP4 video"),
    "xml": (b"<?xml version='1.0'?><net/>", "OpenVINO"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
}


@pytest.mark.parametrize(("data", "what"), FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_named(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "x.lad"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=f"^E_BUNDLE_FOREIGN: .*{what}"):
        bundle.read(path)


def test_plain_safetensors_are_named(tmp_path: Path) -> None:
    save_file({"x": np.zeros(2, np.float32)}, tmp_path / "x.lad")
    with pytest.raises(BundleError, match=r"^E_BUNDLE_FOREIGN: .*plain safetensors"):
        bundle.read(tmp_path / "x.lad")


@pytest.mark.parametrize(
    "data", [b"text", b"\x00" * 8, b"\xff" * 64, struct.pack("<Q", 1 << 20) + b"{}", struct.pack("<Q", 2) + b"[]"]
)
def test_noise_is_refused_by_its_header(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.lad").write_bytes(data)
    with pytest.raises(BundleError, match=r"^E_BUNDLE_(HEADER|FOREIGN)"):
        bundle.read(tmp_path / "x.lad")


def test_a_deeply_nested_header_is_refused() -> None:
    text = b"[" * 100_000
    with pytest.raises(BundleError, match=r"^E_BUNDLE_HEADER"):
        bundle.loads(struct.pack("<Q", len(text)) + text)


# paths


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"none\.lad: no such file; check the path, or make a bundle"):
        bundle.read(tmp_path / "none.lad")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^E_BUNDLE_FOREIGN: .*a directory"):
        bundle.read(tmp_path)


def test_a_symbolic_link_is_refused_and_the_file_named(sample: Path) -> None:
    link = sample.with_name("link.lad")
    link.symlink_to(sample)
    with pytest.raises(BundleError, match=f"^E_BUNDLE_FOREIGN: .*symbolic link; give the real file: {sample}"):
        bundle.read(link)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.lad")
    with pytest.raises(BundleError, match=r"^E_BUNDLE_FOREIGN: .*a device, pipe or socket"):
        bundle.read(tmp_path / "pipe.lad")


def test_a_file_over_the_cap_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "big.lad").open("wb") as file:
        file.truncate((4 << 30) + 1)  # sparse
    with pytest.raises(BundleError, match=r"^E_BUNDLE_SIZE: .*at most 4294967296"):
        bundle.read(tmp_path / "big.lad")


def test_a_file_that_changes_after_reading_changes_nothing(sample: Path) -> None:
    read = bundle.read(sample)
    with sample.open("r+b") as file:
        file.truncate(10)
    np.testing.assert_array_equal(read.scores("f32"), sample_tensors()["scores.f32"])
