"""One detector for several categories of a data set: trained once, calibrated, exported and measured for each."""

import json

import cv2
import numpy as np
import pytest
import torch

from lad_edge import bundle, load
from lad_edge.backbones.pdn import PDN_SIZES, Pdn
from lad_edge.cli import main
from lad_edge.datasets import choose_categories
from lad_edge.errors import UsageError
from lad_edge.images import read_image
from lad_edge.training.checkpoint import load_tensors, save_tensors
from lad_edge.training.run_folder import RunDescription, read_description

pytestmark = pytest.mark.torch
TINY = {"width": 32, "heads": 4, "feed_forward": 32, "layers": 1, "entries": 16, "code_width": 8, "test_masks": 3}
TINY |= {"mim_width": 32, "mim_heads": 4, "mim_layers": 1, "mim_steps": 2, "mim_batch": 2}


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def ring(rng, *, defect):
    """80×60 px, colour."""
    picture = np.full((60, 80, 3), 90, np.uint8)
    cv2.circle(picture, (40, 30), 18, (30, 60, 200), -1 if defect else 6)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def bar(rng, *, defect):
    """64×48 px, grey."""
    picture = np.full((48, 64), 160, np.uint8)
    cv2.rectangle(picture, (10, 12), (54, 44 if defect else 20), 40, -1)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for name, draw in (("rings", ring), ("bars", bar)):
        for folder, count in (
            ("train/good", 16),
            ("validation/good", 20),
            ("test/good", 3),
            ("test/logical_anomalies", 3),
        ):
            for index in range(count):
                save(root / name / folder / f"{index:03}.png", draw(rng, defect=folder.endswith("anomalies")))
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    save_tensors(folder / "teacher.safetensors", Pdn(PDN_SIZES["xs"]).state_dict(), {"kind": "teacher"})
    settings = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    words = [
        "train",
        "ladmim",
        "--data",
        str(data),
        "--categories",
        "all",
        "--out",
        str(folder / "run"),
        "--size",
        "xs",
    ]
    words += ["--steps", "2", "--batch", "4", "--device", "cpu", "--teacher", str(folder / "teacher.safetensors")]
    assert main([*words, *settings]) == 0
    for name in ("rings", "bars"):
        words = ["export", str(folder / "run"), "--category", name, "-o", str(folder / f"{name}.lad")]
        assert main([*words, "--precision", "f32"]) == 0
    return folder


@pytest.mark.slow
def test_the_run_knows_the_images_and_the_geometry_of_each_category(run):
    description = read_description(run / "run")
    assert description.frames == {"bars": (64, 48, "mono8"), "rings": (80, 60, "bgr8")}
    assert {name.split("/")[0] for name in description.train} == {"bars", "rings"}
    rings = description.of("rings")
    assert (len(rings.train), len(rings.validation)) == (16, 20)
    assert (rings.width, rings.height, rings.pixel_format) == (80, 60, "bgr8")


@pytest.mark.slow
def test_engines_of_two_categories_share_the_networks_and_differ_in_what_was_measured(run):
    rings, bars = (bundle.read(run / f"{name}.lad") for name in ("rings", "bars"))
    for tensor in ("graph/encode", "graph/decode", "graph/mim", "ladmim/masks", "ladmim/level_0_entries"):
        assert np.array_equal(rings.tensors[tensor], bars.tensors[tensor])
    contract = bars.manifest.contract
    assert (contract.width, contract.height, contract.pixel_format) == (64, 48, "mono8")
    assert bars.manifest.name == "bars"
    levels = [opened.manifest.calibrations["f32"].normalisation for opened in (rings, bars)]
    assert levels[0]["mask_000"] != levels[1]["mask_000"]


@pytest.mark.slow
def test_ranges_of_codes_are_those_of_the_category_alone(run):
    least, most = load_tensors(run / "run" / "weights.safetensors")[0]["ranges"].numpy()
    found = [bundle.read(run / f"{name}.lad").tensors["ladmim/ranges"] for name in ("rings", "bars")]
    assert np.array_equal(np.minimum(found[0][0], found[1][0]), least)
    assert np.array_equal(np.maximum(found[0][1], found[1][1]), most)
    assert not np.array_equal(*found)


@pytest.mark.slow
def test_an_engine_judges_the_frames_of_its_own_category(run, data):
    frames = {name: read_image(data / name / "test" / "good" / "000.png")[0] for name in ("rings", "bars")}
    with load(run / "bars.lad", precision="f32") as inspector:
        assert inspector(frames["bars"]).verdict.value in ("OK", "NG")
        assert inspector(frames["rings"]).verdict.value == "UNKNOWN"


@pytest.mark.slow
def test_a_category_of_a_run_is_measured_by_name(run, capsys):
    assert main(["eval", str(run / "run"), "--category", "bars", "--precision", "f32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == {"good": 3, "logical_anomalies": 3}
    assert (run / "run" / "eval-bars" / "metrics.json").is_file()


@pytest.mark.slow
def test_a_category_is_asked_for_where_a_run_has_several(run, capsys):
    assert main(["export", str(run / "run")]) == 1
    assert "choose one with --category: bars, rings" in capsys.readouterr().err
    assert main(["eval", str(run / "rings.lad"), "--category", "rings"]) == 1
    assert "an engine file is for one category" in capsys.readouterr().err


def description(**changes):
    fields = {"detector": "ladmim", "name": "rings", "config": {}, "data": "/parts/rings", "layout": "mvtec_ad"}
    fields |= {"train": ("a.png",), "validation": (), "width": 8, "height": 8, "pixel_format": "bgr8", "roi": None}
    return RunDescription(**(fields | {"provenance": {}} | changes))


def test_categories_that_a_run_does_not_have_are_refused():
    one, several = description(), description(data="/parts", frames={"bars": (8, 8, "mono8"), "rings": (8, 8, "bgr8")})
    with pytest.raises(UsageError, match=r"--category bars: the run was trained on one, rings; leave it out"):
        one.of("bars")
    with pytest.raises(UsageError, match="--category nuts: the run was trained on bars, rings"):
        several.of("nuts")


def test_names_of_a_category_are_those_below_its_own_folder(tmp_path):
    frames = {"bar": (8, 8, "mono8"), "bars": (9, 9, "bgr8")}
    several = description(data="/parts", train=("bar/0.png", "bars/1.png"), validation=("bars/2.png",), frames=frames)
    found = several.of("bars", tmp_path)
    assert (found.train, found.validation, found.data) == (("1.png",), ("2.png",), str(tmp_path / "bars"))
    assert several.of("bar").train == ("0.png",)


def test_categories_are_chosen_by_name_and_in_order(data):
    assert list(choose_categories(data, ["rings", "bars"])) == ["rings", "bars"]
    assert choose_categories(data) == {"bars": data / "bars", "rings": data / "rings"}
    with pytest.raises(UsageError, match="category 'nuts': expected one of bars, rings"):
        choose_categories(data, ["nuts"])


@pytest.mark.parametrize(
    ("folder", "names", "message"),
    [(".", "rings,nuts", "category 'nuts': expected one of bars, rings"), ("rings", "all", "is one category itself")],
)
def test_training_refuses_categories_that_are_not_there(data, folder, names, message, tmp_path, capsys):
    words = ["train", "ladmim", "--data", str(data / folder), "--categories", names, "--out", str(tmp_path / "run")]
    assert main([*words, "--size", "xs"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
