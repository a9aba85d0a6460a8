"""LADMIM: rewrites that are exact, and the way from training in two stages to a verdict in words."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from lad_edge.export import ladmim
from lad_edge.export import ladmim_graphs as folded
from lad_edge.export.calibrate import Answers
from lad_edge.export.export import ExportOptions, export_run
from lad_edge.export.parity import compare
from mortal import Dying

from lad_edge import bundle, load
from lad_edge.backbones.pdn import PDN_SIZES, Pdn
from lad_edge.datasets import open_dataset
from lad_edge.detectors.batches import Images
from lad_edge.detectors.ladmim import Ladmim, LadmimConfig
from lad_edge.detectors.targets import TARGETS, Truth
from lad_edge.errors import EngineError
from lad_edge.images import read_image
from lad_edge.inspector import Inspector, Options
from lad_edge.kernels import Quantizer, pack_masks, reference
from lad_edge.scoring import targets
from lad_edge.scoring.counts import Expectations
from lad_edge.scoring.host_line import HostLine
from lad_edge.scoring.ladmim import enlarged, peaks, smoothed
from lad_edge.training import fit as fit_room
from lad_edge.training.checkpoint import load_tensors, save_tensors
from lad_edge.training.fit import FitOptions, fit
from lad_edge.training.trainer import LoopConfig, run_training

pytestmark = [pytest.mark.torch, pytest.mark.slow]
TINY = {
    "size": "xs",
    "width": 32,
    "heads": 4,
    "feed_forward": 64,
    "entries": 16,
    "code_width": 8,
    "steps": 4,
    "batch": 4,
    "learning_rate": 1e-3,
    "mim_width": 32,
    "mim_heads": 4,
    "mim_layers": 2,
    "mim_steps": 4,
    "mim_batch": 4,
    "test_masks": 6,
}


def lively(**changes):
    """Networks in which nothing is 0 or 1 by accident."""
    torch.manual_seed(0)
    config = LadmimConfig(**(TINY | {"layer_scale": 0.5} | changes))
    networks = Ladmim(config).eval().requires_grad_(False)
    networks.mean.normal_()
    networks.std.uniform_(0.5, 2)
    for block in networks.mim.blocks:
        block.scale_attend.normal_()
        block.scale_mlp.normal_()
    networks.masks.copy_(torch.from_numpy(config.draw_masks(np.random.default_rng(0), config.test_masks, 24)))
    return networks


# ---- rewrites


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"mim_layers": 1},
        {"mim_layers": 3, "masking": "checkerboard"},
        {"target": "code"},
        {"target": "feature", "mim_layers": 1},
        {"target": "pixel", "masking": "random"},
    ],
)
def test_folded_transformer_with_constant_masks_predicts_what_the_unfolded_one_predicts(changes):
    networks = lively(**changes)
    before = {key: value.clone() for key, value in networks.mim.state_dict().items()}
    features = torch.randn(1, networks.channels, 24, 24)
    found = folded.FoldedMim(networks.mim, networks.masks)(features)
    expected = networks.mim(features.expand(len(networks.masks), -1, -1, -1), networks.masks)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in networks.mim.state_dict().items())


@torch.no_grad()
def test_folded_layer_scale_gives_the_same_layer():
    block = lively().mim.blocks[0]
    x = torch.randn(2, 7, 32)
    torch.testing.assert_close(folded.fold_layer_scale(block)(x), block(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_folded_encoder_gives_standardised_features_and_their_tokens():
    networks, image = lively(), torch.randn(1, 3, 224, 224)
    features, tokens = folded.FoldedEncoder(networks)(image)
    torch.testing.assert_close(features, networks.describe(image), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(tokens, torch.cat(networks.hvq.encode(features)), atol=1e-4, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("psi", ["linear", "identity"])
def test_tables_give_the_codes_of_the_networks_and_what_they_decode_from_them(psi):
    networks = lively(psi=psi)
    top, *levels = folded.codebooks(networks.hvq)
    depths = networks.hvq.encode(torch.randn(1, networks.channels, 24, 24))
    tokens = torch.cat(depths).numpy()
    codes = np.zeros((5, 576), np.uint16)
    rows = np.zeros((6, 576, 2 * networks.hvq.quantisers.memory_width), np.float32)
    assert Quantizer(top, levels)(tokens, codes, rows[2:]) == 0
    expected = networks.hvq.quantisers.codes(depths)
    assert (codes == expected[0].numpy()).mean() >= 0.999
    assert (reference.quantize(top, levels, tokens) == expected[0].numpy()).mean() >= 0.999
    rows[:2] = folded.first_rows(networks.hvq).numpy()[:, codes[1]]
    memories = networks.hvq.quantisers.memories(torch.from_numpy(codes[None, 1:].astype(np.int64)))
    rebuilt = folded.FoldedDecoder(networks.hvq)(torch.from_numpy(rows))
    torch.testing.assert_close(rebuilt, networks.hvq.decode(memories), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_entries_close_together_and_far_from_zero_are_told_apart():
    """As a codebook of flat parts becomes: float32 has digits for their place or for their differences."""
    networks = lively()
    depths = networks.hvq.encode(torch.randn(1, networks.channels, 24, 24))
    quantisers, far = networks.hvq.quantisers, 100.0
    for psi, book in zip([quantisers.psi_top, *quantisers.psi], quantisers.books(), strict=True):
        psi.bias.add_(far if book is quantisers.top else far - psi.weight[:, -8:].sum(1) * far)
        book.entries.copy_(far + 0.1 * torch.randn_like(book.entries))
    codes, tokens = np.zeros((5, 576), np.uint16), torch.cat(depths).numpy()
    top, *levels = folded.codebooks(networks.hvq)
    Quantizer(top, levels)(tokens, codes)
    assert (codes == quantisers.codes(depths)[0].numpy()).mean() >= 0.999


# ---- targets


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_the_edge_scores_predictions_as_training_does_and_counts_what_is_not_finite(name):
    torch.manual_seed(0)
    masks = torch.from_numpy(LadmimConfig().draw_masks(np.random.default_rng(0), 3, 24))
    truth = Truth(torch.randn(1, 3, 224, 224), torch.randn(1, 5, 24, 24), torch.randint(6, (1, 2, 576)))
    shown = targets.Shown(truth.pixels.numpy(), truth.features.numpy(), truth.codes[0].numpy().astype(np.uint16))
    line = HostLine()
    trained, edge = TARGETS[name](2, 6, 5), targets.open_target(name, line, shown, masks.numpy(), 6)
    predicted = trained.finish(torch.randn(edge.predicted.shape))
    edge.predicted[:] = predicted
    scores = np.zeros(3, np.float32)
    edge.score(scores)
    line.repeat(0)
    assert line.nonfinite == 0
    np.testing.assert_allclose(scores, trained.distance(predicted, truth.expand(3), masks), rtol=1e-5)
    edge.predicted[1] = np.nan
    line.repeat(0)
    assert line.nonfinite > 0


# ---- the tail


def test_the_peak_is_the_largest_mean_of_16_px_of_the_enlarged_map():
    small = np.random.default_rng(0).random((24, 24)).astype(np.float32)
    full = torch.nn.functional.interpolate(
        torch.from_numpy(small)[None, None], 224, mode="bilinear", align_corners=True
    )
    expected = torch.nn.functional.avg_pool2d(full, 16, 1)[0, 0].numpy()
    rows = peaks(24, 224)
    np.testing.assert_allclose(rows @ small @ rows.T, expected, atol=1e-5)
    assert ladmim.peak_values(small[None].astype(np.float64), 224)[0] == pytest.approx(expected.max(), abs=1e-5)


def test_enlarged_maps_lie_where_their_tokens_are():
    small = np.zeros((24, 24), np.float32)
    small[3, 20] = 1
    for rows in (smoothed(24, 224), enlarged(24, 224)):
        y, x = np.unravel_index((rows @ small @ rows.T).argmax(), (224, 224))
        assert abs(y - (16 + 8 * 3 + 3.5)) <= 1  # its 8 px begin 16 px inside the picture
        assert abs(x - (16 + 8 * 20 + 3.5)) <= 1
    np.testing.assert_allclose(enlarged(24, 224).sum(1), 1, atol=1e-6)


# ---- words


def test_what_is_missing_or_too_much_is_said_in_words():
    side, codes = 6, np.zeros((2, 36), np.uint16)
    codes[0].reshape(side, side)[1:4, 2:5] = 1
    codes[1, :5] = 2
    masks = pack_masks(np.ones((1, 36), np.bool_))
    ranges = np.zeros((2, 1, 2, 3), np.int32)
    ranges[1, 0, :, 0] = 36
    ranges[:, 0, 0, 1] = (8, 10)  # nine are there
    ranges[:, 0, 1, 1] = (7, 7)  # none is there
    places = np.full((2, 3, 4), -1, np.int32)
    places[1, 1] = (0, 1, 4, 4)
    found = Expectations(ranges, places, masks, side).findings(codes)
    assert found == (
        "expected 7 patches of code 1 (level 0) around rows 1–2, column 5 of 6; found 0",
        "expected no patches of code 2 (level 0) around row 1, columns 1–5 of 6; found 5",
    )


# ---- parity


def test_images_with_a_changed_code_are_left_out_of_the_errors_and_counted():
    codes = np.zeros((40, 5, 576), np.float32)
    other = codes.copy()
    other[7, 2, 100] = 3
    scores, wrong = np.linspace(1, 2, 40), np.linspace(1, 2, 40)
    wrong[7] += 0.5
    expected = Answers(scores, {"structural": np.ones((40, 2, 2), np.float32), "codes": codes})
    found = Answers(wrong, {"structural": np.ones((40, 2, 2), np.float32), "codes": other})
    parity = compare(expected, found, (3.0, 3.0))
    assert parity.holds
    assert parity.as_json()["codes_equal"] == pytest.approx(1 - 1 / codes.size, abs=1e-5)
    assert set(parity.map_errors) == {"structural"}
    other[:, 0] = 1
    assert not compare(expected, found, (3.0, 3.0)).holds


# ---- end to end


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    torch.manual_seed(0)
    teacher = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_tensors(teacher, Pdn(PDN_SIZES["xs"]).state_dict(), {"kind": "teacher"})
    return FitOptions(teacher=teacher, quiet=True, device="cpu")


@pytest.fixture(scope="module")
def run(kit_tray, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fit("ladmim", kit_tray, folder / "run", TINY, options)
    report = export_run(
        folder / "run", folder / "part.lad", ExportOptions(policy="conformal:20%", precisions=("f32",), test=False)
    )
    return folder, report


def test_parity_holds_and_the_engine_judges_every_image(run, kit_tray):
    folder, report = run
    parity = report["parity"]["f32"]
    assert parity["verdicts_equal"] == parity["images"] == 32
    assert parity["codes_equal"] >= 0.999
    assert set(parity["map_errors"]) == {"structural", "logical"}
    with load(folder / "part.lad", precision="f32") as inspector:
        for record in open_dataset(kit_tray).select(split="test"):
            result = inspector(read_image(record.path)[0])
            assert result.verdict.value in ("OK", "NG")
            assert result.score == pytest.approx(result.structural_score + result.logical_score)
            assert result.anomaly_map.shape == (224, 224)
            most = max(result.structural_score, result.logical_score, result.score)
            assert float(result.anomaly_map.max()) <= most + 1e-4


def test_findings_come_with_a_rejected_part_alone(run, kit_tray):
    folder, _ = run
    picture = np.full_like(read_image(next(iter(open_dataset(kit_tray).select(split="test"))).path)[0], 200)
    part = bundle.read(folder / "part.lad")
    with Inspector(part, Options(precision="f32", threshold=-1e9, gates=False)) as strict:
        result = strict(picture)
    assert result.verdict.value == "NG"
    assert result.findings
    assert all("patches of code" in finding for finding in result.findings)
    with Inspector(part, Options(precision="f32", threshold=1e9, gates=False)) as lax:
        assert lax(picture).findings == ()


def test_both_stages_leave_their_losses(run):
    folder, _ = run
    assert "reconstruction" in (folder / "run" / "losses.csv").read_text()
    assert "histogram" in (folder / "run" / "mim" / "losses.csv").read_text()


@pytest.mark.parametrize("stage", ["first", "second"])
def test_a_run_killed_in_either_stage_resumes_to_the_weights_of_an_unbroken_one(
    stage, run, kit_tray, options, tmp_path, monkeypatch
):
    calls = []

    def train(task, config, folder, meta):
        calls.append(folder)
        mortal = len(calls) == (1 if stage == "first" else 2)
        return run_training(
            Dying(task, 2) if mortal else task, LoopConfig(config.steps, config.seed, 0.0, 1, True), folder, meta
        )

    monkeypatch.setattr(fit_room, "run_training", train)
    with pytest.raises(KeyboardInterrupt):
        fit("ladmim", kit_tray, tmp_path / "run", TINY, options)
    monkeypatch.undo()
    fit("ladmim", kit_tray, tmp_path / "run", TINY, options)
    whole, broken = (load_tensors(path / "run" / "weights.safetensors")[0] for path in (run[0], tmp_path))
    assert whole.keys() == broken.keys()
    different = [name for name, value in whole.items() if not torch.equal(value, broken[name])]
    assert not different


def test_other_readings_of_the_paper_are_exported_too(kit_tray, options, tmp_path):
    changes = {"psi": "identity", "codebook": "gradient", "structural_score": "mean", "mask_statistics": True}
    quick = {"mim_layers": 1, "masking": "checkerboard", "steps": 1, "mim_steps": 1}
    fit("ladmim", kit_tray, tmp_path / "run", TINY | changes | quick, options)
    report = export_run(
        tmp_path / "run", tmp_path / "part.lad", ExportOptions(policy="conformal:20%", precisions=("f32",), test=False)
    )
    assert report["parity"]["f32"]["codes_equal"] >= 0.999


@pytest.mark.parametrize("target", ["code", "feature", "pixel"])
def test_other_targets_are_trained_exported_and_scored_as_in_torch(target, kit_tray, options, tmp_path):
    quick = {"target": target, "layers": 1, "mim_layers": 1, "steps": 2, "mim_steps": 2, "test_masks": 3}
    fit("ladmim", kit_tray, tmp_path / "run", TINY | quick, options)
    report = export_run(
        tmp_path / "run", tmp_path / "part.lad", ExportOptions(policy="conformal:20%", precisions=("f32",), test=False)
    )
    parity = report["parity"]["f32"]
    assert parity["verdicts_equal"] == parity["images"]
    assert parity["map_errors"]["logical"] <= 1e-3
    with load(tmp_path / "part.lad", precision="f32") as inspector:
        assert inspector.bundle.manifest.parameters["target"] == target
        record = open_dataset(kit_tray).select(split="test")[0]
        assert inspector(read_image(record.path)[0]).verdict.value in ("OK", "NG")


def test_an_unknown_target_is_refused(run, tmp_path):
    opened = bundle.read(run[0] / "part.lad")
    manifest = replace(opened.manifest, parameters={**opened.manifest.parameters, "target": "edges"})
    bundle.write(tmp_path / "other.lad", manifest, opened.tensors)
    with pytest.raises(EngineError, match="target is 'edges', this version knows histogram, code"):
        load(tmp_path / "other.lad", precision="f32")


@pytest.mark.parametrize("table", ["ladmim/masks", "ladmim/level_2_memory", "ladmim/ranges"])
def test_a_bundle_without_a_table_is_refused(run, tmp_path, table):
    opened = bundle.read(run[0] / "part.lad")
    tensors = {name: value for name, value in opened.tensors.items() if name != table}
    bundle.write(tmp_path / "less.lad", opened.manifest, tensors)
    with pytest.raises(EngineError, match=rf"should hold the table {table}.*found none"):
        load(tmp_path / "less.lad", precision="f32")


def test_steps_of_both_stages_follow_from_the_epochs():
    stages = fit_room.METHODS["ladmim"].stages
    config = LadmimConfig(epochs=3, batch=4, mim_epochs=2, mim_batch=8)
    for stage in stages:
        config = stage.with_steps(config, images=24)
    assert (config.steps, config.mim_steps) == (18, 6)
    assert asdict(config)["side"] == 224


def test_preparing_twice_chooses_the_same_masks():
    chosen = []
    for _ in range(2):
        networks = Ladmim(LadmimConfig(**TINY))
        networks.prepare(Images(torch.rand(1, 3, 224, 224), 0, torch.device("cpu")))
        chosen.append(networks.masks)
    assert torch.equal(*chosen)
    assert int(chosen[0].sum(1).min()) == 130
    assert math.isclose(float(chosen[0].float().mean()), 130 / 576, rel_tol=1e-6)
