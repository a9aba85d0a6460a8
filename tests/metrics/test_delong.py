"""The interval of a difference of AUROCs against what repeated draws of images really do."""

import numpy as np
import pytest

from lad_edge.errors import DataError
from lad_edge.metrics import auroc, auroc_difference

LIFT = np.array([[1.0], [1.6]])  # how far each engine raises the score of an anomalous image


def draw(rng, good=40, anomalous=60):
    """Scores of two engines, correlated by what both see in an image."""
    sides = []
    for count, lift in ((good, 0 * LIFT), (anomalous, LIFT)):
        sides.append(lift + rng.normal(size=(2, count)) + rng.normal(size=count))
    return sides


def test_the_difference_is_that_of_the_aurocs():
    good, anomalous = draw(np.random.default_rng(1))
    expected = auroc(good[1], anomalous[1]) - auroc(good[0], anomalous[0])
    assert auroc_difference(good, anomalous).value == pytest.approx(expected)


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(2)
    good, anomalous = draw(rng, 20_000, 20_000)
    truth = auroc_difference(good, anomalous).value
    intervals = [auroc_difference(*draw(rng)).interval for _ in range(600)]
    assert 0.92 < np.mean([low <= truth <= high for low, high in intervals]) < 0.98


def test_the_same_images_make_it_narrower_than_other_images_would():
    rng = np.random.default_rng(3)
    good, anomalous = draw(rng)
    low, high = auroc_difference(good, anomalous).interval
    other = [np.stack([side[0], rng.permutation(side[1])]) for side in (good, anomalous)]
    wide = auroc_difference(*other).interval
    assert high - low < wide[1] - wide[0]


def test_swapped_engines_give_the_mirrored_interval():
    good, anomalous = draw(np.random.default_rng(4))
    value, (low, high) = auroc_difference(good, anomalous)
    mirrored = auroc_difference(good[::-1], anomalous[::-1])
    assert (mirrored.value, *mirrored.interval) == pytest.approx((-value, -high, -low))


def test_images_that_both_engines_place_alike_give_no_interval():
    assert auroc_difference([[0, 1], [5, 6]], [[2, 3], [7, 8]]) == (0.0, None)
    assert auroc_difference([[0], [5]], [[2, -3], [7, 8]]).interval is None


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="NaN"):
        auroc_difference([[0, 1], [0, np.nan]], [[2, 3], [2, 3]])
