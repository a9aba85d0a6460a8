import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lad_edge.errors import DataError
from lad_edge.metrics import PixelAuroc, auroc, roc_curve

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


@given(good=scores, anomalous=scores)
def test_auroc_is_the_share_of_ordered_pairs(good, anomalous):
    pairs = [(a > g) + 0.5 * (a == g) for a in anomalous for g in good]
    assert auroc(good, anomalous) == pytest.approx(np.mean(pairs))


@given(good=scores, anomalous=scores)
def test_area_under_the_curve_is_the_auroc(good, anomalous):
    false, true = roc_curve(good, anomalous)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2) == pytest.approx(auroc(good, anomalous))


def test_hand_checked_case():
    assert auroc([1, 2, 3], [3, 4]) == pytest.approx(5.5 / 6)


@pytest.mark.parametrize(("good", "anomalous"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([1.0], [np.inf])])
def test_empty_classes_and_non_finite_scores_are_refused(good, anomalous):
    with pytest.raises(DataError):
        auroc(good, anomalous)


def test_pixel_auroc_equals_the_exact_one_to_a_thousandth():
    rng = np.random.default_rng(0)
    pixels, values, masks = PixelAuroc(), [], []
    for _ in range(4):
        mask = rng.random((31, 33)) < 0.1
        values.append((rng.normal(size=mask.shape) + mask).astype(np.float32))
        masks.append(mask)
        pixels.add(values[-1], mask)
    flat, marked = np.concatenate([v.ravel() for v in values]), np.concatenate([m.ravel() for m in masks])
    assert pixels.value() == pytest.approx(auroc(flat[~marked], flat[marked]), abs=1e-3)


def test_pixel_auroc_refuses_other_shapes_and_nan():
    pixels = PixelAuroc()
    with pytest.raises(DataError, match="same size"):
        pixels.add(np.zeros((2, 2), np.float32), np.zeros((2, 3), bool))
    with pytest.raises(DataError, match="NaN"):
        pixels.add(np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), bool))
    with pytest.raises(DataError, match="one kind"):
        pixels.value()
