"""FOD with the reference kinds beside the mean, from training to the edge (FOD paper, Table 15)."""

import numpy as np
import pytest
import torch
from lad_edge.export import fod
from lad_edge.export.export import ExportOptions, export_run

from lad_edge import bundle, load
from lad_edge.detectors.fod import Fod, FodConfig, rebuilding_error
from lad_edge.training.fit import FitOptions, fit

pytestmark = pytest.mark.torch
SMALL = {"width_fine": 32, "width_coarse": 32, "heads": 4, "layers": 2}


@torch.no_grad()
def test_a_folded_network_that_chooses_its_reference_gives_what_the_unfolded_one_gives():
    torch.manual_seed(0)
    networks = Fod(FodConfig(reference="nearest", reference_pictures=3, **SMALL)).eval()
    images = torch.randn(3, 3, 256, 256)
    for index, image in enumerate(images.split(1)):
        for level in range(2):
            networks.bank(level)[index] = networks.tokens(image, level)[0]
    folded, chosen = fod.fold(networks), []
    for image in images.flip(0).split(1):
        outputs = folded(image + 0.01)
        for level, (error, _) in enumerate(networks(image + 0.01)):
            features, rebuilt, *_, keys = outputs[5 * level : 5 * level + 5]
            tokens, found = (part.flatten(2).transpose(1, 2) for part in (features, rebuilt))
            torch.testing.assert_close(rebuilding_error(tokens, found), error, atol=1e-3, rtol=1e-3)
            chosen.append(keys)
    assert chosen[0].shape == (2, 1024, 32)
    assert not torch.allclose(chosen[0], chosen[2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nearest", "coreset", "codebook"])
def test_every_reference_runs_at_the_edge_as_in_torch(kind, kit_tray, tmp_path):
    settings = SMALL | {
        "reference": kind,
        "reference_pictures": 4,
        "reference_entries": 32,
        "steps": 4,
        "learning_rate": 1e-3,
    }
    fit("fod", kit_tray, tmp_path / "run", settings, FitOptions(quiet=True, device="cpu"))
    options = ExportOptions(policy="conformal:20%", precisions=("f32",), test=False)
    proven = export_run(tmp_path / "run", tmp_path / "part.lad", options)["parity"]["f32"]
    assert proven["verdicts_equal"] == proven["images"] == 32
    assert max(proven["max_relative_error"], *proven["map_errors"].values()) <= 1e-3
    constant = {f"fod/keys_{level}" for level in ("fine", "coarse")} & set(bundle.read(tmp_path / "part.lad").tensors)
    assert len(constant) == (0 if kind == "nearest" else 2)
    with load(tmp_path / "part.lad", precision="f32") as inspector:
        result = inspector(np.array(inspector.bundle.golden_frames[0]))
    assert result.verdict.value in ("OK", "NG")
