"""ULSAD and FOD from training to a verdict, with the backbone that comes by pip."""

import math

import numpy as np
import pytest
from lad_edge.export.export import ExportOptions, export_run

from lad_edge import bundle, load
from lad_edge.datasets import open_dataset
from lad_edge.errors import EngineError
from lad_edge.images import read_image
from lad_edge.training.fit import FitOptions, fit

pytestmark = [pytest.mark.torch, pytest.mark.slow]
QUICK = {
    "ulsad": {"decoder": "projected", "steps": 4, "batch": 2, "learning_rate": 1e-3},
    "fod": {"width_fine": 32, "width_coarse": 32, "heads": 4, "layers": 2, "steps": 4, "learning_rate": 1e-3},
}


@pytest.fixture(scope="module")
def engine(kit_tray, tmp_path_factory):
    """engine(detector, **changes) → path of an exported file and its report; equal ones are made once."""
    made = {}

    def make(detector, **changes):
        key = repr((detector, changes))
        if key not in made:
            folder = tmp_path_factory.mktemp(detector)
            fit(detector, kit_tray, folder / "run", QUICK[detector] | changes, FitOptions(quiet=True, device="cpu"))
            report = export_run(folder / "run", folder / "part.lad", ExportOptions(policy="conformal:20%"))
            made[key] = folder / "part.lad", report
        return made[key]

    return make


@pytest.mark.parametrize(("detector", "maps"), [("ulsad", {"structural", "logical"}), ("fod", {"fine", "coarse"})])
def test_parity_holds_and_the_engine_judges_every_image(detector, maps, engine, kit_tray):
    path, report = engine(detector)
    assert report["parity"]["f32"]["verdicts_equal"] == report["parity"]["f32"]["images"] == 32
    assert set(report["parity"]["f32"]["map_errors"]) == maps
    with load(path, precision="f32") as inspector:
        for record in open_dataset(kit_tray).select(split="test"):
            result = inspector(read_image(record.path)[0])
            assert result.verdict.value in ("OK", "NG")
            assert math.isfinite(result.structural_score)
            assert (result.logical_score is not None) == (detector == "ulsad")
            assert result.anomaly_map.shape == (256, 256)
            assert result.score == pytest.approx(float(result.anomaly_map.max()))


def test_an_engine_with_the_local_branch_alone_states_no_logical_score(engine):
    path, report = engine("ulsad", local_only=True, consistency=False, blur=0.0)
    assert set(report["parity"]["f32"]["map_errors"]) == {"structural"}
    with load(path, precision="f32") as inspector:
        result = inspector(np.array(inspector.bundle.golden_frames[0]))
    assert result.logical_score is None
    assert result.structural_score == pytest.approx(result.score)


def test_a_bundle_without_the_keys_of_the_reference_is_refused(engine, tmp_path):
    path, _ = engine("fod")
    opened = bundle.read(path)
    tensors = {name: value for name, value in opened.tensors.items() if name != "fod/keys_coarse"}
    bundle.write(tmp_path / "less.lad", opened.manifest, tensors)
    with pytest.raises(EngineError, match=r"should hold the table fod/keys_coarse.*found none"):
        load(tmp_path / "less.lad", precision="f32")
