"""`lad-edge eval` and what it measures, with an engine that fires on spots of 16 × 16 px at x 24, y 16."""

import json

import cv2
import numpy as np
import pytest
import tiny
from lad_edge.export.evaluate import evaluate

from lad_edge.cli import main
from lad_edge.datasets import open_dataset
from lad_edge.metrics import LIMITS, auroc, resize_map

SPOT, SLOT = np.s_[16:32, 24:40], np.s_[16:32, 24:56]


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def save_mask(path, where, value=255):
    mask = np.zeros((tiny.HEIGHT, tiny.WIDTH), np.uint8)
    mask[where] = value
    save(path, mask)


def save_config(root, *saturations):
    entries = [
        {"defect_name": name, "pixel_value": value, "saturation_threshold": threshold, "relative_saturation": relative}
        for name, value, threshold, relative in saturations
    ]
    (root / "defects_config.json").write_text(json.dumps(entries))


@pytest.fixture
def loco(tmp_path):
    """White and blue spots; the slot of a logical anomaly is twice as wide as its spot."""
    root = tmp_path / "slots"
    save(root / "train" / "good" / "000.png", tiny.good_picture(0))
    for i in range(3):
        save(root / "test" / "good" / f"{i:03d}.png", tiny.good_picture(10 + i))
    for label, where, value, colour in (
        ("structural_anomalies", SPOT, 254, (255, 255, 255)),
        ("logical_anomalies", SLOT, 255, tiny.BLUE_SPOT),
    ):
        for i in range(2):
            save(root / "test" / label / f"{i:03d}.png", tiny.spotted_picture(20 + i, colour))
            save_mask(root / "ground_truth" / label / f"{i:03d}" / "000.png", where, value)
    save_config(root, ("empty_slot", 255, 64, False), ("stain", 254, 1.0, True))
    return root


def measured(inspector, root):
    return evaluate(inspector, open_dataset(root)).metrics


def test_curves_of_a_loco_category(open_inspector, loco):
    metrics = measured(open_inspector(), loco)
    by_label = metrics["au_spro_by_label"]
    assert set(by_label) == {"logical_anomalies", "structural_anomalies"}
    assert (
        list(by_label["logical_anomalies"]) == [f"{limit:g}" for limit in LIMITS] == ["0.01", "0.05", "0.1", "0.3", "1"]
    )
    for limit, mean in metrics["au_spro_mean"].items():
        assert mean == pytest.approx(np.mean([areas[limit] for areas in by_label.values()]), abs=1e-4)
    # A quarter of the spot is enough of the slot, and it lies above everything that is good.
    assert by_label["logical_anomalies"]["0.05"] == 1 > by_label["structural_anomalies"]["0.05"] > 0.9
    assert metrics["image_auroc_by_label"] == {"logical_anomalies": 1.0, "structural_anomalies": 1.0}
    assert 0.5 < metrics["aupro_0.3"] < 1


def test_without_saturation_the_whole_slot_has_to_be_found(open_inspector, loco):
    save_config(loco, ("empty_slot", 255, 1.0, True), ("stain", 254, 1.0, True))
    assert measured(open_inspector(), loco)["au_spro_by_label"]["logical_anomalies"]["0.05"] < 0.7


def test_good_images_count_with_their_own_pixels(open_inspector, loco):
    """The maps of this engine are 32 × 32, the images 48 × 64."""
    inspector, dataset = open_inspector(), open_dataset(loco)
    found = evaluate(inspector, dataset)
    good, bad = [], []
    for one in found.judged:
        full = resize_map(one.result.anomaly_map, (tiny.HEIGHT, tiny.WIDTH))
        mask = np.zeros(full.shape, bool)
        mask[{"good": np.s_[:0], "logical_anomalies": SLOT}.get(one.record.label, SPOT)] = True
        good.append(full[~mask])
        bad.append(full[mask])
    exact = auroc(np.concatenate(good), np.concatenate(bad))
    assert found.judged[0].result.anomaly_map.shape != (tiny.HEIGHT, tiny.WIDTH)
    assert found.metrics["pixel_auroc"] == pytest.approx(exact, abs=1e-3)


def test_maps_lie_where_the_region_of_interest_is(open_inspector, loco):
    inspector = open_inspector(roi=(16, 8, 32, 32))
    assert measured(inspector, loco)["au_spro_by_label"]["structural_anomalies"]["0.3"] > 0.9
    for i in range(2):
        save_mask(loco / "ground_truth" / "structural_anomalies" / f"{i:03d}" / "000.png", np.s_[42:, 50:], 254)
    assert measured(inspector, loco)["au_spro_by_label"]["structural_anomalies"]["0.3"] == 0


def test_without_config_or_masks_there_are_fewer_figures(open_inspector, loco):
    inspector = open_inspector()
    (loco / "defects_config.json").unlink()
    metrics = measured(inspector, loco)
    assert "aupro_0.3" in metrics
    assert not any(name.startswith("au_spro") for name in metrics)
    (loco / "ground_truth").rename(loco / "elsewhere")
    assert not {"pixel_auroc", "aupro_0.3"} & set(measured(inspector, loco))


def test_one_kind_of_anomaly_has_no_mean(open_inspector, loco):
    (loco / "test" / "structural_anomalies").rename(loco / "elsewhere")
    metrics = measured(open_inspector(), loco)
    assert list(metrics["au_spro_by_label"]) == ["logical_anomalies"]
    assert "au_spro_mean" not in metrics


@pytest.mark.torch
def test_the_verb_prints_and_writes_the_figures(tiny_bundle, loco, tmp_path, capsys):
    words = ["eval", str(tiny_bundle), "--data", str(loco), "--out", str(tmp_path / "eval")]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "eval" / "metrics.json").read_text()) == printed
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    (aupro,) = (line for line in lines if line.startswith("  aupro 0.3 "))
    assert aupro.endswith(f" {printed['aupro_0.3']}")
    (spro,) = (line for line in lines if line.startswith("  au spro by label "))
    assert f"logical_anomalies (0.01: {printed['au_spro_by_label']['logical_anomalies']['0.01']}, " in spro


@pytest.mark.torch
def test_a_mask_that_the_config_does_not_know_is_named(tiny_bundle, loco, tmp_path, capsys):
    save_mask(loco / "ground_truth" / "logical_anomalies" / "001" / "000.png", SLOT, 7)
    assert main(["eval", str(tiny_bundle), "--data", str(loco), "--out", str(tmp_path / "eval")]) == 2
    error = capsys.readouterr().err
    assert (
        "logical_anomalies/001.png: expected masks with a value of defects_config.json ([254, 255]), found 7" in error
    )
