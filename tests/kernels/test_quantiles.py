from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import QUANTILES

from lad_edge.kernels import quantiles, reference

Q = (0.0, 0.001, 0.1, 0.5, 0.9, 0.995, 1.0)


def check(values: np.ndarray | list[np.ndarray], q: object) -> None:
    assert_allclose(quantiles(values, q), reference.quantiles(values, q), rtol=QUANTILES.rtol, atol=QUANTILES.atol)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 33, 64, 65, 97, 100_003])
def test_equals_numpy(n: int) -> None:
    check(np.random.default_rng(n).normal(size=n).astype(np.float32), Q)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=30), min_size=1, max_size=4),
    st.lists(st.floats(0, 1), max_size=5),
)
def test_equals_numpy_for_any_chunks(chunks: list[list[float]], q: list[float]) -> None:
    arrays = [np.array(chunk, np.float32) for chunk in chunks]
    if sum(a.size for a in arrays) == 0:
        with pytest.raises(ValueError, match="at least one"):
            quantiles(arrays, q)
        return
    got = quantiles(arrays, q)
    values = np.sort(np.concatenate(arrays).astype(np.float64))
    for fraction, value in zip(q, got, strict=True):
        low = int(fraction * (values.size - 1))
        high = min(low + 1, values.size - 1)
        weight = fraction * (values.size - 1) - low
        assert value == values[low] if weight == 0 else values[low] <= value <= values[high]
        assert_allclose(value, values[low] + weight * (values[high] - values[low]), rtol=1e-12, atol=0)


def test_chunks_count_as_one_array_without_being_joined() -> None:
    values = np.random.default_rng(0).random(10_001, np.float32)
    whole = quantiles(values, Q)
    assert_array_equal(quantiles([values[:17], values[17:17], values[17:5000], values[5000:]], Q), whole)
    assert_array_equal(quantiles(values[:10_000].reshape(10, 10, 100), Q), quantiles(values[:10_000], Q))


def test_many_groups_take_several_passes() -> None:
    """More than 64 distinct upper halves of the bits, of both signs."""
    exponents = np.linspace(-30, 30, 4001)
    values = np.concatenate([np.exp(exponents), -np.exp(exponents)]).astype(np.float32)
    check(values, np.linspace(0, 1, 201))


@pytest.mark.slow
def test_exact_beyond_2_to_the_24() -> None:
    """A float32 index or counter would stop at 16 777 216; every value is distinct, so a rank off by one shows."""
    n = 2**24 + 12_345
    ranks = np.arange(n, dtype=np.uint32) + np.uint32(0x3F000000)  # consecutive floats from 0.5 upwards
    values = ranks.view(np.float32)
    half = n // 3
    got = quantiles([values[half:], values[:half]], [i / (n - 1) for i in (0, 1, 2**24 - 1, 2**24 + 1, n - 1)])
    for value, index in zip(got, (0, 1, 2**24 - 1, 2**24 + 1, n - 1), strict=True):
        assert_allclose(value, np.float64(values[index]), rtol=1e-12)


def test_shape_of_q_is_kept() -> None:
    values = np.arange(5, dtype=np.float32)
    assert quantiles(values, 0.5).shape == ()
    assert quantiles(values, [[0.25], [0.75]]).tolist() == [[1.0], [3.0]]


def test_infinities_are_ordered_and_never_make_nan() -> None:
    values = np.array([-np.inf, np.inf, 0, -0.0, 1e-45], np.float32)
    assert quantiles(values, [0, 0.5, 1]).tolist() == [-np.inf, 0, np.inf]
    assert not np.isnan(quantiles(np.array([-np.inf, np.inf], np.float32), [0, 0.3, 0.5, 1])).any()


@pytest.mark.parametrize("position", [0, 15, 16, 96])
@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_nan_is_refused(position: int, nan: float) -> None:
    values = np.zeros(97, np.float32)
    values[position] = nan
    with pytest.raises(ValueError, match="NaN"):
        quantiles([np.zeros(3, np.float32), values], 0.5)


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_q_outside_0_to_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="q: expected"):
        quantiles(np.zeros(3, np.float32), q)


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((4, 4), np.float32)[:, ::2], [np.zeros(3, np.int32)]])
def test_wrong_arrays_are_refused(values: np.ndarray) -> None:
    with pytest.raises(TypeError, match="values: expected a C-contiguous float32 array"):
        quantiles(values, 0.5)
