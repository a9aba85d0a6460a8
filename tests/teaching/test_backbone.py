"""Which network describes the pictures, and at which size: what ships, files, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper
from test_lesson import OPTIONS, lamps

import lad_edge
from lad_edge import bundle as bundles
from lad_edge.bundle.onnx_guard import OnnxRefusedError, inspect_onnx, reshaped
from lad_edge.errors import DataError, UsageError
from lad_edge.teaching import Lesson
from lad_edge.teaching.backbone import ABOUT, CELLS, IMAGE, open_backbone
from lad_edge.values import Verdict


def taught(folder, options, start=None, seeds=range(16)):
    with Lesson(options, start and bundles.read(start)) as lesson:
        for seed in seeds:
            lesson.show(f"{seed}.png", lamps(seed), "bgr8")
        path = folder / f"{len(lesson)}.lad"
        lesson.finish().write(path)
        return path


@pytest.fixture
def file(tmp_path):
    """The backbone that ships, as a file that says another name of itself."""
    model = onnx.load_from_string(bytes(open_backbone().onnx))
    about = next(prop for prop in model.metadata_props if prop.key == ABOUT)
    about.value = about.value.replace("efficientnet-lite0", "our-own")
    path = tmp_path / "own.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("side", [128, 384, 1024])
def test_another_side_is_stated_and_nothing_else_is_touched(side):
    expected = onnx.load_from_string(bytes(open_backbone().onnx))
    for value, edge in ((expected.graph.input[0], side), (expected.graph.output[0], side // 16)):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = edge
    found = open_backbone(side=side)
    assert onnx.load_from_string(bytes(found.onnx)) == expected
    assert (found.side, found.grid) == (side, side // 16)


@pytest.mark.parametrize(
    "shapes",
    [
        {IMAGE: (1, 3, 16384, 256), CELLS: (1, 152, 16, 16)},
        {IMAGE: (1, 3, 64, 256), CELLS: (1, 152, 16, 16)},  # one byte where there are two
        {IMAGE: (1, 3, 256, 256), CELLS: (1, 152, 128, 16)},
        {IMAGE: (1, 3, 256, 256), CELLS: (1, 152, 0, 16)},
        {IMAGE: (1, 3, 256), CELLS: (1, 152, 16, 16)},
        {IMAGE: (1, 3, 256, 256)},
        {"picture": (1, 3, 256, 256), CELLS: (1, 152, 16, 16)},
    ],
)
def test_sides_that_do_not_fit_into_the_file_are_refused(shapes):
    with pytest.raises(OnnxRefusedError):
        reshaped(open_backbone().onnx, shapes)


@pytest.mark.parametrize("side", [64, 250, 400, 1056])
def test_sides_that_give_no_regions_are_refused(side):
    with pytest.raises(UsageError, match=f"--side {side}: expected 128 to 1024 px in steps of 32"):
        open_backbone(side=side)


def test_an_engine_is_taught_at_another_side(tmp_path):
    path = taught(tmp_path, replace(OPTIONS, side=192))
    engine = bundles.read(path).manifest
    assert engine.contract.size == (192, 192)
    assert engine.parameters["grid"] == 12
    with lad_edge.load(path, threads=1) as inspector:
        bad, good = inspector(lamps(3, alike=False)), inspector(lamps(103))
    assert (bad.verdict, good.verdict) == (Verdict.NG, Verdict.OK)
    assert " of 12: " in bad.findings[0]


def test_a_file_describes_the_pictures_and_goes_with_the_engine(tmp_path, file):
    path = taught(tmp_path, replace(OPTIONS, backbone=str(file)))
    file.unlink()  # the engine has its own copy to go on with
    more = bundles.read(taught(tmp_path, OPTIONS, path, range(16, 18)))
    assert more.manifest.provenance["backbone"] == "our-own"
    assert more.graph_bytes("backbone") == bundles.read(path).graph_bytes("backbone")


@pytest.mark.parametrize("changes", [{"side": 384}, {"backbone": "efficientnet-lite0"}])
def test_one_does_not_go_on_with_another_network(tmp_path, file, changes):
    path = taught(tmp_path, replace(OPTIONS, backbone=str(file)))
    with pytest.raises(UsageError, match="was taught with our-own at 256 px"):
        Lesson(replace(OPTIONS, **changes), bundles.read(path))


def test_names_and_files_that_are_no_backbone_are_refused(tmp_path):
    with pytest.raises(UsageError, match="expected one of efficientnet-lite0, or a file"):
        open_backbone("resnet")
    with pytest.raises(DataError, match=r"none\.onnx"):
        open_backbone(str(tmp_path / "none.onnx"))
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(bytes(open_backbone().onnx)[:1000])
    with pytest.raises(UsageError, match=r"cut short: .*; expected a file made by"):
        open_backbone(str(torn))


@pytest.mark.parametrize("about", [None, "{}", "[]", "no JSON", '{"name": "x", "mean": [1], "std": [1, 1, 1]}'])
def test_a_file_that_does_not_say_how_pictures_are_normalised_is_refused(tmp_path, about):
    model = onnx.load_from_string(bytes(open_backbone().onnx))
    helper.set_model_props(model, {} if about is None else {ABOUT: about})
    path = tmp_path / "mute.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="made by 'python -m"):
        open_backbone(str(path))


def test_the_guard_reads_what_a_file_says_of_itself():
    assert '"name": "efficientnet-lite0"' in inspect_onnx(open_backbone().onnx).metadata[ABOUT]
    assert np.isclose(open_backbone().mean, 127 / 255).all()
