from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import DISTANCE_MAP_COSINE

from lad_edge.kernels import _cpu, distance_map, reference

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)


def features(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check(a: np.ndarray, b: np.ndarray, cosine: float) -> None:
    out = np.full(a.shape[1:], np.nan, np.float32)
    assert distance_map(a, b, cosine=cosine, out=out) == 0
    expected = reference.distance_map(a, b, cosine=cosine)
    assert_allclose(out, expected, rtol=DISTANCE_MAP_COSINE.rtol, atol=DISTANCE_MAP_COSINE.atol * max(1.0, cosine))


@pytest.mark.parametrize("channels", [1, 2, 3, 384])
@pytest.mark.parametrize("width", ODD)
@pytest.mark.parametrize("cosine", [0.5, 5.0])
def test_equals_reference(isa: str, channels: int, width: int, cosine: float) -> None:
    check(features(channels, 3, width), features(channels, 3, width, seed=1), cosine)


def test_more_positions_than_a_block_and_a_batch_of_one(isa: str) -> None:
    a, b = features(7, 33, 97), features(7, 33, 97, seed=1)
    check(a, b, 1.0)
    out = np.empty((33, 97), np.float32)
    assert distance_map(a[None], b[None], cosine=1.0, out=out) == 0


def test_close_features_do_not_cancel(isa: str) -> None:
    """The normal case: the reconstruction is close to the features, and far from zero."""
    a = features(384, 5, 17) + 50
    check(a, a + features(384, 5, 17, seed=1) * np.float32(1e-3), 0.5)


def test_equal_features_have_no_distance(isa: str) -> None:
    a = features(384, 5, 17)
    out = np.empty((5, 17), np.float32)
    distance_map(a, a.copy(), cosine=1.0, out=out)
    assert_allclose(out, 0, atol=DISTANCE_MAP_COSINE.atol)


def test_norms_are_clamped_each_as_in_torch(isa: str) -> None:
    a, b = np.zeros((2, 1, 3), np.float32), np.zeros((2, 1, 3), np.float32)
    a[0, 0], b[0, 0] = (0, 1e-9, 1), (1, 1e-9, 1)
    out = np.empty((1, 3), np.float32)
    assert distance_map(a, b, cosine=2.0, out=out) == 0
    assert_allclose(out[0], [0.5 + 2, 2 * (1 - 0.01), 0], rtol=DISTANCE_MAP_COSINE.rtol)


def test_without_weight_the_mean_square_is_the_same_to_the_bit() -> None:
    a, b = features(97, 33, 31), features(97, 33, 31, seed=1)
    plain, zero = np.empty((33, 31), np.float32), np.empty((33, 31), np.float32)
    distance_map(a, b, out=plain)
    distance_map(a, b, cosine=0.0, out=zero)
    assert_array_equal(plain, zero)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 15, 16, 96])
@pytest.mark.parametrize("channel", [0, 3, 6])
def test_nonfinite_positions_are_counted(isa: str, value: float, position: int, channel: int) -> None:
    a, b = features(7, 1, 97), features(7, 1, 97, seed=1)
    a[channel, 0, position] = value
    out = np.empty((1, 97), np.float32)
    assert distance_map(a, b, cosine=0.5, out=out) == 1
    assert_array_equal(np.flatnonzero(~np.isfinite(out)), [position])


def test_a_norm_that_overflows_does_not_pass_for_a_right_angle(isa: str) -> None:
    """|a|^2 overflows and |a - b|^2 does not: product / infinity would be a cosine of 0."""
    a, b = np.zeros((2, 1, 1), np.float32), np.zeros((2, 1, 1), np.float32)
    a[0], b[0] = 2e19, 2e18
    out = np.empty((1, 1), np.float32)
    assert distance_map(a, b, cosine=0.5, out=out) == 1
    assert np.isnan(out[0, 0])


@pytest.mark.parametrize("cosine", [0.0, 0.5])
def test_all_instruction_sets_give_the_same_bits(cosine: float) -> None:
    a, b = features(31, 33, 65), features(31, 33, 65, seed=1)
    results, before = [], _cpu.isa()
    for name in _cpu.isas():
        _cpu.use_isa(name)
        out = np.empty((33, 65), np.float32)
        distance_map(a, b, cosine=cosine, out=out)
        results.append(out.tobytes())
    _cpu.use_isa(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("cosine", [-0.1, float("nan"), float("inf")])
def test_wrong_weights_are_refused(cosine: float) -> None:
    a = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(ValueError, match="cosine: expected"):
        distance_map(a, a, cosine=cosine, out=np.empty((3, 4), np.float32))
