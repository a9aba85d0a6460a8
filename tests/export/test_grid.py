"""A grid of real trainings, at a size that a test can afford."""

import csv
import json

import pytest
from lad_edge.export import grid
from lad_edge.export.grid import Measured, markdown

from lad_edge.cli import main
from lad_edge.datasets.synthetic import generate
from lad_edge.training import presets

pytestmark = pytest.mark.torch


@pytest.mark.slow
def test_a_grid_is_trained_once_and_goes_on_where_it_was_killed(tmp_path, monkeypatch, capsys):
    generate(tmp_path, seed=1, train=24, validation=20, test_good=4, logical=3, structural=3, width_px=160)
    monkeypatch.setitem(presets.PRESETS["dfsc"], "cpu", {"size": "xs", "steps": 2})
    words = ["benchmark-detectors", str(tmp_path / "kit_tray"), "--detectors", "dfsc", "--seeds", "1,2"]
    words += ["--preset", "cpu", "--out", str(tmp_path / "bench"), "--device", "cpu"]
    trained = []
    real = grid.fit

    def counted(detector, data, out, settings, options):
        trained.append(settings["seed"])
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(detector, data, out, settings, options)

    monkeypatch.setattr(grid, "fit", counted)
    assert main(words) == 130
    assert main(words) == 0
    assert trained == [1, 2, 2]
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "bench" / "results.md").read_text()
    assert "| kit_tray | dfsc | 2 |" in printed
    rows = list(csv.DictReader((tmp_path / "bench" / "results.csv").read_text().splitlines()))
    cells = json.loads((tmp_path / "bench" / "results.json").read_text())
    assert [row["seed"] for row in rows] == ["1", "2"]
    assert [float(row["image AUROC"]) for row in rows] == [cell["metrics"]["image_auroc"] for cell in cells]
    monkeypatch.setitem(presets.PRESETS["dfsc"], "cpu", {"size": "xs", "steps": 3})
    assert main(words) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_the_table_shows_mean_and_spread_beside_the_published_numbers():
    def cell(detector, seed, auroc):
        metrics = {"image_auroc": auroc, "image_auroc_by_label": {"logical_anomalies": auroc}}
        return Measured(detector, "juice_bottle", seed, {}, 90, metrics, "here")

    table = markdown([cell("dfsc", 1, 0.9), cell("dfsc", 2, 1.0), cell("ulsad", 1, 0.8)]).splitlines()
    assert table[0] == "| data | detector | seeds | image AUROC | logical | minutes | published |"
    assert table[2] == (
        "| juice_bottle | dfsc | 2 | 0.950 ± 0.071 | 0.950 ± 0.071 | 2 | 0.999 logical, 0.999 structural |"
    )
    assert table[3] == "| juice_bottle | ulsad | 1 | 0.800 | 0.800 | 2 | 0.971 |"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--detectors", "fastflow"], "detector 'fastflow': expected one of efficient_ad"),
        (["--categories", "bottle"], "category 'bottle': expected one of part"),
        (["--seeds", "one"], "expected whole numbers"),
    ],
)
def test_wrong_words_are_named(tmp_path, capsys, words, message):
    good = tmp_path / "part" / "train" / "good"
    good.mkdir(parents=True)
    (good / "0.png").touch()
    assert main(["benchmark-detectors", str(tmp_path), "--out", str(tmp_path / "out"), *words]) == 1
    assert message in capsys.readouterr().err
