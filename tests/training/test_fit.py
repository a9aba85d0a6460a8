import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from mortal import Dying

from lad_edge.backbones.pdn import PDN_SIZES, Pdn
from lad_edge.errors import DataError, UsageError
from lad_edge.training.checkpoint import load_tensors, save_tensors
from lad_edge.training.fit import METHODS, FitOptions, fit, load_networks, make_config
from lad_edge.training.presets import PRESETS

pytestmark = pytest.mark.torch
QUIET = {"quiet": True, "device": "cpu"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_tensors(path, Pdn(PDN_SIZES["xs"]).state_dict(), {"kind": "teacher"})
    return path


@pytest.fixture
def part(tmp_path):
    folder = tmp_path / "part"
    (folder / "good").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(6):
        picture = np.full((60, 80, 3), 90, np.uint8)
        cv2.circle(picture, (40 + index, 30), 12, (30, 60, 200), -1)
        picture = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "good" / f"{index}.png"), picture)
    return folder


def weights(run):
    return load_tensors(run / "weights.safetensors")[0]


@pytest.mark.parametrize("detector", ["efficient_ad", "dfsc"])
def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(tmp_path, part, teacher, detector, monkeypatch):
    options, settings = FitOptions(teacher=teacher, **QUIET), {"size": "xs", "steps": 4}
    fit(detector, part, tmp_path / "whole", settings, options)
    _kill_after(monkeypatch, steps=2)
    with pytest.raises(KeyboardInterrupt):
        fit(detector, part, tmp_path / "broken", settings, options)
    monkeypatch.undo()
    assert not (tmp_path / "broken" / "weights.safetensors").exists()
    with pytest.raises(DataError, match=r"has not finished.*resume"):
        load_networks(tmp_path / "broken")
    fit(detector, part, tmp_path / "broken", settings, options)
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(value, broken[name]) for name, value in whole.items())


def _kill_after(monkeypatch, steps):
    """Checkpoint at every step, and die like a killed process in step `steps`."""
    from lad_edge.training import fit as room
    from lad_edge.training.trainer import LoopConfig, run_training

    def train(task, config, folder, meta):
        return run_training(Dying(task, steps), LoopConfig(config.steps, config.seed, 0.0, 1, True), folder, meta)

    monkeypatch.setattr(room, "run_training", train)


def test_the_run_folder_tells_what_was_trained_on_what(tmp_path, part, teacher):
    fit("dfsc", part, tmp_path / "run", {"size": "xs", "steps": 1, "seed": 3}, FitOptions(teacher=teacher, **QUIET))
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["config"]["seed"] == 3
    assert (described["width"], described["height"], described["pixel_format"]) == (80, 60, "bgr8")
    assert len(described["train"]) + len(described["validation"]) == 6
    assert not set(described["train"]) & set(described["validation"])
    assert len(described["provenance"]["data_sha256"]) == 64
    assert (tmp_path / "run" / "losses.png").stat().st_size > 1000


def test_a_folder_with_another_run_is_not_overwritten(tmp_path, part, teacher):
    options = FitOptions(teacher=teacher, **QUIET)
    fit("dfsc", part, tmp_path / "run", {"size": "xs", "steps": 1}, options)
    with pytest.raises(UsageError, match=r"holds another run.*choose another --out"):
        fit("dfsc", part, tmp_path / "run", {"size": "xs", "steps": 2}, options)


def test_photographs_enter_efficient_ad_and_are_refused_by_dfsc(tmp_path, part, teacher):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for index in range(16):
        shutil.copy(part / "good" / f"{index % 6}.png", photographs / f"{index}.png")
    options = FitOptions(teacher=teacher, photographs=photographs, **QUIET)
    fit("efficient_ad", part, tmp_path / "run", {"size": "xs", "steps": 1}, options)
    assert "penalty" in (tmp_path / "run" / "losses.csv").read_text()
    with pytest.raises(UsageError, match="dfsc has no penalty"):
        fit("dfsc", part, tmp_path / "other", {"size": "xs", "steps": 1}, options)


def test_images_that_mix_colour_and_grey_are_refused(tmp_path, part, teacher):
    cv2.imwrite(str(part / "good" / "grey.png"), np.full((60, 80), 90, np.uint8))
    with pytest.raises(DataError, match="mix colour and grey"):
        fit("dfsc", part, tmp_path / "run", {"size": "xs", "steps": 1}, FitOptions(teacher=teacher, **QUIET))


def test_sixteen_bit_images_are_refused_with_the_remedy(tmp_path, part, teacher):
    for path in (part / "good").iterdir():
        cv2.imwrite(str(path), np.full((60, 80), 900, np.uint16))
    with pytest.raises(DataError, match="expected 8-bit colour or grey, found mono16; convert"):
        fit("dfsc", part, tmp_path / "run", {"size": "xs", "steps": 1}, FitOptions(teacher=teacher, **QUIET))


def test_one_image_is_too_few(tmp_path, part, teacher):
    for path in sorted((part / "good").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="at least 2 good"):
        fit("dfsc", part, tmp_path / "run", {"size": "xs", "steps": 1}, FitOptions(teacher=teacher, **QUIET))


def test_a_teacher_of_another_size_is_refused(tmp_path, part, teacher):
    with pytest.raises(UsageError, match="not a PDN teacher of size s"):
        fit("dfsc", part, tmp_path / "run", {"size": "s", "steps": 1}, FitOptions(teacher=teacher, **QUIET))


@pytest.mark.parametrize(
    ("detector", "settings", "message"),
    [
        ("fastflow", {}, "expected one of dfsc, efficient_ad"),
        ("efficient_ad", {"margin": 1.0}, "no setting margin"),
        ("dfsc", {"size": "l"}, "--size l"),
        ("dfsc", {"side": 200}, "multiple of 64"),
        ("dfsc", {"steps": 0}, "at least 1"),
        ("dfsc", {"batch": 2, "student_batch": 3}, "--student-batch 3"),
        ("ulsad", {"batch": 1}, "needs at least 2"),
        ("ulsad", {"backbone": "vgg"}, "expected one of efficientnet-lite0"),
        ("ulsad", {"global_loss": "l1"}, "expected one of attention"),
        ("ulsad", {"local_only": True}, "set consistency=false"),
    ],
)
def test_settings_out_of_range_are_refused_with_what_is_expected(detector, settings, message):
    with pytest.raises(UsageError, match=message):
        make_config(detector, settings)


@pytest.mark.parametrize("preset", ["paper", "cpu"])
@pytest.mark.parametrize("detector", sorted(METHODS))
def test_presets_hold_settings_of_every_detector(detector, preset):
    config = make_config(detector, PRESETS[detector][preset])
    assert config.schedule == {"paper": "step", "cpu": "cosine"}[preset]


@pytest.mark.parametrize("detector", ["efficient_ad", "dfsc"])
def test_the_preset_for_a_cpu_takes_the_small_networks(detector):
    assert [make_config(detector, PRESETS[detector][preset]).size for preset in ("paper", "cpu")] == ["s", "xs"]


def test_an_unknown_schedule_is_refused():
    with pytest.raises(UsageError, match="--schedule linear: expected one of step, cosine"):
        make_config("dfsc", {"schedule": "linear"})
