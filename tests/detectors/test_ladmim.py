from dataclasses import replace

import numpy as np
import pytest
import torch

from lad_edge.detectors.batches import Images
from lad_edge.detectors.ladmim import (
    Ladmim,
    LadmimConfig,
    MimTask,
    MimTransformer,
    common_places,
    warmed_cosine,
)
from lad_edge.detectors.masks import MASKINGS, balanced_masks, block_mask
from lad_edge.detectors.targets import TARGETS, HistogramTarget, Truth, histogram_distance, histograms, patches
from lad_edge.errors import UsageError
from lad_edge.training.trainer import _step

pytestmark = pytest.mark.torch
SMALL = LadmimConfig(
    size="xs",
    width=16,
    heads=2,
    feed_forward=16,
    layers=2,
    entries=6,
    code_width=4,
    mim_width=16,
    mim_heads=2,
    mim_layers=2,
    mim_steps=20,
    mim_batch=2,
    mim_learning_rate=1e-2,
    layer_scale=0.1,
    test_masks=3,
    dropout=0.0,
)


@pytest.fixture
def prepared():
    torch.manual_seed(0)
    networks, images = Ladmim(SMALL), Images(torch.rand(3, 3, 224, 224), 7, torch.device("cpu"))
    networks.prepare(images)
    return networks, images


def test_parameters_of_the_transformer_are_those_of_the_card():
    with torch.device("meta"):
        mim = MimTransformer(384, 576, LadmimConfig())
    assert round(sum(p.numel() for p in mim.parameters()) / 1e6, 2) == 14.16


def test_features_are_24_by_24_and_standardised(prepared):
    networks, images = prepared
    described = torch.cat([networks.describe(image) for image in images.each()])
    assert described.shape == (3, 128, 24, 24)
    torch.testing.assert_close(described.mean((0, 2, 3)), torch.zeros(128), atol=1e-4, rtol=0)
    torch.testing.assert_close(described.std((0, 2, 3), unbiased=False), torch.ones(128), atol=1e-3, rtol=0)


# ---- masks


def test_block_masks_cover_the_picture_as_measured_on_the_card():
    generator = np.random.default_rng(0)
    masks = np.stack([block_mask(generator, 24, 130, 46) for _ in range(1500)])
    assert set(masks.sum((1, 2)).tolist()) == {130}
    coverage = masks.mean(0)
    assert coverage[11:13, 11:13].mean() == pytest.approx(0.48, abs=0.04)
    assert np.mean([coverage[0, 12], coverage[23, 12], coverage[12, 0], coverage[12, 23]]) == pytest.approx(
        0.07, abs=0.02
    )
    assert np.mean([coverage[y, x] for y in (0, 23) for x in (0, 23)]) == pytest.approx(0.015, abs=0.01)


@pytest.mark.parametrize("name", ["random", "block-random"])
def test_other_maskings_hide_as_many_cells(name):
    generator = np.random.default_rng(0)
    assert {int(MASKINGS[name](generator, 24, 130, 46).sum()) for _ in range(50)} == {130}


def test_the_checkerboard_hides_every_other_square():
    mask = MASKINGS["checkerboard"](np.random.default_rng(1), 24, 130, 46)
    assert mask.sum() == 288
    assert not (mask[4:] & mask[:-4]).any()


def test_masks_follow_from_the_generator_alone():
    drawn = [SMALL.draw_masks(np.random.default_rng(3), 4, 24) for _ in range(2)]
    assert drawn[0].shape == (4, 576)
    assert np.array_equal(*drawn)


def test_sixteen_chosen_masks_hide_every_cell_twice():
    pool = LadmimConfig().draw_masks(np.random.default_rng(0), 4000, 24)
    assert balanced_masks(pool, 16).sum(0).min() >= 2
    assert (balanced_masks(pool, 8).sum(0) == 0).mean() <= 0.01


def test_the_mask_that_covers_most_forgotten_cells_comes_next():
    pool = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 0, 0]], np.bool_)
    assert np.array_equal(balanced_masks(pool, 2), pool[[3, 2]])


# ---- the target


def test_histograms_count_the_hidden_tokens_of_each_level():
    codes = torch.tensor([[[0, 1, 1, 2], [2, 2, 2, 0]]])
    mask = torch.tensor([[True, True, True, False]])
    expected = torch.tensor([[[1 / 3, 2 / 3, 0], [0, 0, 1.0]]])
    torch.testing.assert_close(histograms(codes, mask, 3), expected)


def test_the_distance_is_zero_where_the_histogram_is_known_and_twice_the_levels_at_most():
    codes = torch.tensor([[[0, 0, 0, 1], [1, 1, 1, 0]], [[2, 2, 2, 0], [0, 0, 0, 0]]])
    masks = torch.tensor([[True, True, True, False]]).expand(2, -1)
    truth = Truth(torch.empty(2, 0), torch.empty(2, 0), codes)
    sure = torch.full((2, 2, 3), -200.0)
    right, wrong = sure.clone(), sure.clone()
    for image, level, code in ((0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 0)):
        right[image, level, code] = 0
        wrong[image, level, (code + 1) % 3] = 0
    target = HistogramTarget(levels=2, entries=3)
    assert target.distance(right, truth, masks).tolist() == pytest.approx([0, 0])
    assert target.distance(wrong, truth, masks).tolist() == pytest.approx([4, 4])  # 8 with four levels


def test_the_distance_is_two_minus_twice_the_common_part():
    torch.manual_seed(0)
    logits, truth = torch.randn(5, 4, 7), torch.softmax(torch.randn(5, 4, 7), -1)
    common = torch.minimum(torch.softmax(logits, -1), truth).sum((1, 2))
    torch.testing.assert_close(histogram_distance(logits, truth), 8 - 2 * common)


@pytest.fixture
def truth():
    torch.manual_seed(0)
    return Truth(torch.randn(2, 3, 64, 64), torch.randn(2, 5, 4, 4), torch.randint(6, (2, 2, 16)))


MASKS = torch.zeros(2, 16, dtype=torch.bool).index_put(
    (torch.tensor([0, 0, 1, 1]), torch.tensor([3, 7, 4, 5])), torch.tensor(True)
)


def one_by_one(truth, value):
    """Mean over the hidden tokens of value(image, row, column)."""
    return [np.mean([value(i, int(n) // 4, int(n) % 4) for n in MASKS[i].nonzero()]) for i in range(2)]


def test_codes_are_predicted_token_by_token_with_cross_entropy(truth):
    target = TARGETS["code"](2, 6, 5)
    predicted = target.finish(torch.randn(2, 2, 2, 6))
    torch.testing.assert_close(predicted.exp().sum(-1), torch.ones(2, 2, 2))
    expected = [
        sum(
            -predicted[i, t, level, truth.codes[i, level, n]]
            for t, n in enumerate(MASKS[i].nonzero()[:, 0])
            for level in range(2)
        )
        / 2
        for i in range(2)
    ]
    torch.testing.assert_close(target.distance(predicted, truth, MASKS), torch.stack(expected))


@pytest.mark.parametrize("name", ["feature", "pixel"])
def test_features_and_pixels_are_predicted_with_the_squared_error_of_hidden_tokens(truth, name):
    target = TARGETS[name](2, 6, 5)
    values = {
        "feature": lambda i, y, x: truth.features[i, :, y, x],
        "pixel": lambda i, y, x: truth.pixels[i, :, 16 + 8 * y : 24 + 8 * y, 16 + 8 * x : 24 + 8 * x],
    }[name]
    predicted = torch.full((2, 2, *target.shape), 0.5)
    expected = one_by_one(truth, lambda *place: float((values(*place) - 0.5).square().mean()))
    assert target.distance(predicted, truth, MASKS).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_patch_of_pixels_is_colour_by_colour_and_row_by_row(truth):
    found = patches(truth.pixels, 4)
    assert found.shape == (2, 16, 192)
    assert torch.equal(found[1, 6].view(3, 8, 8), truth.pixels[1, :, 24:32, 32:40])


@pytest.mark.parametrize(
    ("name", "shape"), [("histogram", (2, 6)), ("code", (3, 2, 6)), ("feature", (3, 5)), ("pixel", (3, 192))]
)
def test_what_is_hidden_does_not_reach_the_prediction(name, shape):
    torch.manual_seed(0)
    mim = MimTransformer(5, 16, replace(SMALL, target=name)).eval()
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[0, [3, 4, 7]] = True
    features = torch.randn(1, 5, 4, 4)
    other = features.clone()
    other.flatten(2)[..., mask[0]] += 3
    assert mim(features, mask).shape == (1, *shape)
    assert torch.equal(mim(other, mask), mim(features, mask))
    shown = mask.roll(8, 1)
    assert not torch.equal(mim(other, shown), mim(features, shown))


# ---- training


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_first_stage_is_frozen_and_the_second_learns(prepared, target):
    networks, images = prepared
    config = replace(SMALL, target=target)
    networks.mim = MimTransformer(networks.channels, 576, config)
    task = MimTask(networks, images, config)
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    losses = [float(_step(task, 0, step)[target]) for step in range(20)]
    changed = {
        name.split(".")[0] for name, value in networks.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"mim"}
    assert min(losses) >= 0
    assert sum(losses[-4:]) < sum(losses[:4])
    norm = torch.stack([p.grad.norm() for p in networks.mim.parameters() if p.grad is not None]).norm()
    assert float(norm) <= 1.001


def test_ranges_hold_the_counts_of_every_training_image(prepared):
    networks, images = prepared
    task = MimTask(networks, images, SMALL)
    least, most = networks.ranges
    for codes in task.codes:
        for index, mask in enumerate(networks.masks):
            hidden = torch.stack([torch.bincount(level[mask].long(), minlength=6) for level in codes])
            assert (least[index] <= hidden).all()
            assert (hidden <= most[index]).all()
    assert (networks.masks.sum(1) == 130).all()


def test_places_are_the_rows_and_columns_of_a_code():
    codes = torch.zeros(2, 1, 36, dtype=torch.int16)
    codes.view(2, 1, 6, 6)[:, :, 2:4, 1] = 1
    places = common_places(codes, 3, 6)
    assert places[0, 1].tolist() == [2, 3, 1, 1]
    assert places[0, 2].tolist() == [-1, -1, -1, -1]


def test_scores_of_an_image_are_those_of_its_masks_one_by_one(prepared):
    networks, images = prepared
    networks.eval()
    with torch.no_grad():
        structural, scores, codes = networks(images.one(0))
    assert structural.shape == (24, 24)
    assert codes.shape == (3, 576)
    assert scores.shape == (3,)
    assert ((scores >= 0) & (scores <= 4)).all()
    rebuilt, features = networks.hvq(networks.describe(images.one(0))), networks.describe(images.one(0))
    torch.testing.assert_close(structural, torch.linalg.vector_norm(rebuilt - features, dim=1)[0])


def test_the_rate_rises_for_forty_of_five_hundred_epochs_and_falls_to_a_hundredth():
    assert warmed_cosine(0) == pytest.approx(0.01)
    assert warmed_cosine(0.08) == pytest.approx(1)
    assert warmed_cosine(1) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masking": "stripes"}, "expected one of block, random"),
        ({"target": "edges"}, "expected one of histogram, code, feature, pixel"),
        ({"structural_score": "sum"}, "expected one of max, mean"),
        ({"mask_ratio": 0.95}, r"from 0\.01 to 0\.9"),
        ({"block_share": 0.3}, "block_share"),
        ({"mim_width": 100}, "multiple of the 8 heads"),
        ({"mim_layers": 0}, "at least 1"),
        ({"test_masks": 0}, "expected 1 to 256"),
        ({"mim_steps": -1}, "expected steps of at least 0"),
        ({"side": 256}, "needs 224"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        LadmimConfig(**settings).check()
