"""ULSAD from training to a verdict, with the backbone that comes by pip."""

import math

import numpy as np
import pytest
from lad_edge.export.export import ExportOptions, export_run

from lad_edge import bundle, load
from lad_edge.datasets import open_dataset
from lad_edge.datasets.synthetic import generate
from lad_edge.images import read_image
from lad_edge.training.fit import FitOptions, fit

pytestmark = [pytest.mark.torch, pytest.mark.slow]
QUICK = {"decoder": "projected", "steps": 4, "batch": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("ulsad")
    generate(root, seed=1, train=24, validation=8, test_good=4, logical=3, structural=3, width_px=160)
    return root / "kit_tray"


def engine(data, tmp_path, **changes):
    fit("ulsad", data, tmp_path / "run", QUICK | changes, FitOptions(quiet=True, device="cpu"))
    report = export_run(tmp_path / "run", tmp_path / "part.lad", ExportOptions(policy="conformal:20%"))
    return tmp_path / "part.lad", report


def test_parity_holds_and_the_engine_judges_every_image(data, tmp_path):
    path, report = engine(data, tmp_path)
    assert report["parity"]["f32"]["verdicts_equal"] == report["parity"]["f32"]["images"] == 32
    assert set(report["parity"]["f32"]["map_errors"]) == {"structural", "logical"}
    with load(path, precision="f32") as inspector:
        for record in open_dataset(data).select(split="test"):
            result = inspector(read_image(record.path)[0])
            assert result.verdict.value in ("OK", "NG")
            assert math.isfinite(result.structural_score)
            assert math.isfinite(result.logical_score)
            assert result.anomaly_map.shape == (256, 256)
            assert result.score == pytest.approx(float(result.anomaly_map.max()))
    opened = bundle.read(path)
    assert opened.manifest.parameters["channels"] == 152


def test_an_engine_with_the_local_branch_alone_states_no_logical_score(data, tmp_path):
    path, report = engine(data, tmp_path, local_only=True, consistency=False, blur=0.0)
    assert set(report["parity"]["f32"]["map_errors"]) == {"structural"}
    with load(path, precision="f32") as inspector:
        result = inspector(np.array(inspector.bundle.golden_frames[0]))
    assert result.logical_score is None
    assert result.structural_score == pytest.approx(result.score)
