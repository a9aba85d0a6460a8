from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import ELEMENTARY, LOGARITHM, SYMMETRIC_KL

from lad_edge.kernels import _cpu, reference, symmetric_kl

ODD_SIDES = (1, 2, 3, 4, 5, 8, 15, 16, 17, 31)
BAD = (np.nan, -np.nan, np.inf, -np.inf)


def inputs(side: int, width: int, heads: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, keys and sigmas from the smallest that FOD's head can give to the largest."""
    rng = np.random.default_rng(seed)
    queries, keys = (rng.normal(size=(side * side, width)).astype(np.float32) for _ in range(2))
    sigmas = 3.0 ** (1 / (1 + np.exp(-rng.normal(0, 5, (side * side, 2 * heads)))) + 1e-5) - 1
    return queries, keys, sigmas.astype(np.float32)


def check(arrays: tuple[np.ndarray, np.ndarray, np.ndarray], side: int, heads: int) -> None:
    before = np.random.default_rng(1).random(side * side, np.float32)
    out = before.copy()
    assert symmetric_kl(*arrays, heads=heads, side=side, weight=0.5, out=out) == 0
    expected = before + 0.5 * reference.symmetric_kl(*arrays, heads=heads, side=side)
    # The exponent of the softmax has the rounding of the score: the error follows the largest score.
    query, key = (np.linalg.norm(a.reshape(side * side, heads, -1), axis=2).max() for a in arrays[:2])
    largest = max(1.0, query * key / np.sqrt(arrays[0].shape[1] / heads))
    assert_allclose(out, expected, rtol=SYMMETRIC_KL.rtol, atol=SYMMETRIC_KL.atol * largest)


@pytest.mark.parametrize("side", ODD_SIDES)
@pytest.mark.parametrize(("width", "heads"), [(1, 1), (6, 2), (15, 1), (34, 2), (65, 5), (97, 1)])
def test_equals_reference_for_odd_sizes(isa: str, side: int, width: int, heads: int) -> None:
    check(inputs(side, width, heads), side, heads)


@pytest.mark.parametrize(("side", "width"), [(32, 256), (16, 512)])
def test_equals_reference_at_full_size(isa: str, side: int, width: int) -> None:
    check(inputs(side, width, 8), side, 8)


@pytest.mark.parametrize("sharpness", [1e-3, 10.0, 1000.0])
def test_flat_and_sharp_correlations(isa: str, sharpness: float) -> None:
    """From a softmax without preference to one in which a single key is left."""
    queries, keys, sigmas = inputs(9, 16, 2)
    check((queries * np.float32(sharpness), keys, sigmas), 9, 2)


@pytest.mark.parametrize("sigma", [1e-30, 1.1e-5, 0.732, 2.0, 1e3, 1e30])
def test_narrow_and_wide_neighbourhoods(isa: str, sigma: float) -> None:
    """methods.md 13.11: sigma may be 1.1e-5, whose square float16 and a careless quotient cannot hold."""
    queries, keys, sigmas = inputs(9, 16, 2)
    check((queries, keys, np.full_like(sigmas, sigma)), 9, 2)


@pytest.mark.parametrize("sigma", [0.06, 0.137, 0.275, 0.96, 1.37, 2.33])
def test_neighbourhoods_that_end_within_the_grid(isa: str, sigma: float) -> None:
    """T counts as 0 beyond 7.3 sigma: nothing may be missing just inside, for whole and for broken blocks of rows."""
    queries, keys, sigmas = inputs(32, 2, 1)
    check((queries, keys, np.full_like(sigmas, sigma)), 32, 1)
    queries, keys, sigmas = inputs(19, 2, 1)
    check((queries * np.float32(1e-3), keys, np.full_like(sigmas, sigma)), 19, 1)


def test_rows_go_down_and_columns_across(isa: str) -> None:
    queries, keys, sigmas = inputs(9, 16, 1)
    sigmas[:, 0], sigmas[:, 1] = 0.1, 2.0
    check((queries, keys, sigmas), 9, 1)
    swapped, straight = np.zeros(81, np.float32), np.zeros(81, np.float32)
    symmetric_kl(queries, keys, sigmas, heads=1, side=9, weight=1.0, out=straight)
    symmetric_kl(queries, keys, np.ascontiguousarray(sigmas[:, ::-1]), heads=1, side=9, weight=1.0, out=swapped)
    assert np.abs(swapped - straight).max() > 0.1


def test_correlations_that_are_the_neighbourhood_have_no_divergence(isa: str) -> None:
    """A Gaussian of the grid is the softmax of q . k with k = (y, x, y^2 + x^2): S = T."""
    y, x = (axis.ravel().astype(np.float64) for axis in np.mgrid[:7, :7])
    keys = np.stack([y, x, y * y + x * x, 0 * y], 1).astype(np.float32)
    queries = np.stack([2 * y, 2 * x, 0 * y - 1, 0 * y], 1).astype(np.float32)  # 2 yy' + 2 xx' - |.|^2, over sqrt(4)
    out = np.zeros(49, np.float32)
    symmetric_kl(queries, keys, np.ones((49, 2), np.float32), heads=1, side=7, weight=1.0, out=out)
    assert_allclose(out, 0, atol=SYMMETRIC_KL.atol)


def test_the_outer_product_is_the_gaussian() -> None:
    """methods.md 13.3: the reference has the two-dimensional form."""
    sigmas = inputs(5, 1, 3)[2].astype(np.float64)
    whole = reference.neighbourhoods(sigmas, 5)
    distance = np.arange(5)[None] - np.arange(5)[:, None]
    for i in range(25):
        for h in range(3):
            down, across = (
                reference.softmax(-0.5 * (distance[at] / sigmas[i, 2 * h + k]) ** 2)
                for k, at in enumerate(divmod(i, 5))
            )
            assert_allclose(np.outer(down, across).ravel(), whole[h, i], atol=1e-12)


def test_layers_accumulate(isa: str) -> None:
    layers = [inputs(5, 16, 2, seed) for seed in range(3)]
    out = np.zeros(25, np.float32)
    for arrays in layers:
        symmetric_kl(*arrays, heads=2, side=5, weight=1 / 3, out=out)
    wanted = np.mean([reference.symmetric_kl(*arrays, heads=2, side=5) for arrays in layers], axis=0)
    assert_allclose(out, wanted, rtol=SYMMETRIC_KL.rtol, atol=SYMMETRIC_KL.atol)


@pytest.mark.parametrize("value", BAD)
def test_nonfinite_inputs_are_counted_and_propagated(isa: str, value: float) -> None:
    clean = inputs(5, 16, 2)
    for which, row in ((0, 7), (1, 24), (2, 13)):
        arrays = [a.copy() for a in clean]
        arrays[which][row, 3] = value
        out = np.zeros(25, np.float32)
        assert symmetric_kl(*arrays, heads=2, side=5, weight=1.0, out=out) == 1
        if which == 1:
            assert np.isnan(out).all()
        elif which == 0:
            assert_array_equal(np.flatnonzero(np.isnan(out)), [row])


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_sigmas_that_are_not_positive_are_counted(isa: str, value: float) -> None:
    queries, keys, sigmas = inputs(5, 16, 2)
    sigmas[3, 1] = sigmas[4, 0] = value
    assert symmetric_kl(queries, keys, sigmas, heads=2, side=5, weight=1.0, out=np.zeros(25, np.float32)) == 2


def test_scores_that_overflow_are_counted(isa: str) -> None:
    queries, keys, sigmas = inputs(5, 16, 2)
    queries[3] = keys[4] = 3e38
    assert symmetric_kl(queries, keys, sigmas, heads=2, side=5, weight=1.0, out=np.zeros(25, np.float32)) > 0


def test_all_instruction_sets_give_the_same_bits() -> None:
    arrays = inputs(17, 34, 2)
    results, before = [], _cpu.isa()
    for name in _cpu.isas():
        _cpu.use_isa(name)
        out = np.zeros(289, np.float32)
        symmetric_kl(*arrays, heads=2, side=17, weight=1.0, out=out)
        results.append(out.tobytes())
    _cpu.use_isa(before)
    assert len(set(results)) == 1


def test_threads_do_not_disturb_each_other() -> None:
    arrays = [inputs(5 + i, 16, 2, seed=i) for i in range(4)]
    got = [np.zeros((20, (5 + i) ** 2), np.float32) for i in range(4)]

    def work(i: int) -> None:
        for row in got[i]:
            symmetric_kl(*arrays[i], heads=2, side=5 + i, weight=1.0, out=row)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((rows == rows[0]).all() for rows in got)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"queries": np.zeros((25, 16))}, TypeError, "queries"),
        ({"queries": np.zeros((24, 16), np.float32)}, ValueError, r"queries: expected shape \(25, d\)"),
        ({"keys": np.zeros((25, 32), np.float32)[:, ::2]}, TypeError, "keys"),
        ({"keys": np.zeros((25, 8), np.float32)}, ValueError, "keys"),
        ({"sigmas": np.zeros((25, 4))}, TypeError, "sigmas"),
        ({"sigmas": np.zeros((25, 2), np.float32)}, ValueError, r"sigmas: expected shape \(25, 4\)"),
        ({"heads": 3}, ValueError, "heads: expected a divisor of 16"),
        ({"heads": 0}, ValueError, "heads"),
        ({"side": 0}, ValueError, "side"),
        ({"weight": float("nan")}, ValueError, "weight"),
        ({"out": np.zeros(25)}, TypeError, "out"),
        ({"out": np.zeros(24, np.float32)}, ValueError, "out"),
    ],
)
def test_refuses(change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = dict(zip(("queries", "keys", "sigmas"), inputs(5, 16, 2), strict=True))
    options = {"heads": 2, "side": 5, "weight": 1.0, "out": np.zeros(25, np.float32)}
    with pytest.raises(error, match=message):
        symmetric_kl(**{**arguments, **options, **change})


# ---- exp and log


def test_exponential_keeps_its_bound() -> None:
    x = np.concatenate([np.linspace(-87, 88, 1_000_003), np.linspace(-1, 1, 100_003)]).astype(np.float32)
    assert_allclose(_cpu.exponential(x), np.exp(x.astype(np.float64)), rtol=ELEMENTARY.rtol)
    assert np.isnan(_cpu.exponential(np.float32(np.nan)))


def test_power_of_two_keeps_its_bound() -> None:
    x = np.concatenate([np.linspace(-125, 127, 1_000_003), np.linspace(-1, 1, 100_003)]).astype(np.float32)
    assert_allclose(_cpu.power_of_two(x), np.exp2(x.astype(np.float64)), rtol=ELEMENTARY.rtol)
    assert np.isnan(_cpu.power_of_two(np.array([np.nan, -np.nan], np.float32))).all()
    assert_array_equal(_cpu.power_of_two(np.array([-np.inf, -1e30], np.float32)), np.exp2([-125, -125]))


def test_logarithm_keeps_its_bound() -> None:
    """Over all of the normal numbers, close around 1, and on both sides of every border of the table."""
    every = np.arange(0x00800000, 0x7F800000, 1009, dtype=np.uint32).view(np.float32)
    around = np.arange(0x3F7F0000, 0x3F810000, dtype=np.uint32).view(np.float32)
    borders = np.float32(1 + np.arange(17) / 16)
    for x in (every, around, borders, np.nextafter(borders, np.float32(0))):
        assert_allclose(_cpu.logarithm(x), np.log(x.astype(np.float64)), rtol=LOGARITHM.rtol, atol=LOGARITHM.atol)
