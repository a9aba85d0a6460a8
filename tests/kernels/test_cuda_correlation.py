"""CUDA `symmetric_kl` equals the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_device import HostDevice
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import SYMMETRIC_KL

from lad_edge.kernels import reference

BAD = (np.nan, -np.nan, np.inf, -np.inf)
Arrays = tuple[np.ndarray, ...]


def inputs(side: int, width: int, heads: int, seed: int = 0) -> Arrays:
    """Queries, keys and sigmas from the smallest that FOD's head can give to the largest."""
    rng = np.random.default_rng(seed)
    queries, keys = (rng.normal(size=(side * side, width)).astype(np.float32) for _ in range(2))
    sigmas = 3.0 ** (1 / (1 + np.exp(-rng.normal(0, 5, (side * side, 2 * heads)))) + 1e-5) - 1
    return queries, keys, sigmas.astype(np.float32)


def run(device: HostDevice, arrays: Arrays, side: int, heads: int, before: np.ndarray) -> tuple[np.ndarray, int]:
    layers = 1 if arrays[0].ndim == 2 else len(arrays[0])
    size = device.kernels.symmetric_kl_workspace_bytes(side=side, heads=heads, layers=layers)
    workspace, nonfinite, out = device.workspace(size), device.counter(), device.put(before)
    buffers = {"nonfinite": nonfinite, "workspace": workspace, "stream": device.stream}
    options = {"heads": heads, "side": side, "weight": 0.5, "out": out}
    device.kernels.symmetric_kl(*map(device.put, arrays), **options, **buffers)
    device.get(workspace)
    return device.get(out), int(device.get(nonfinite)[0])


def check(device: HostDevice, arrays: Arrays, side: int, heads: int) -> None:
    before = np.random.default_rng(1).random(side * side, np.float32)
    out, nonfinite = run(device, arrays, side, heads, before)
    assert nonfinite == 0
    wide = [a.astype(np.float32) for a in arrays]
    expected = before + 0.5 * reference.symmetric_kl(*wide, heads=heads, side=side)
    # The exponent of the softmax has the rounding of the score: the error follows the largest score.
    query, key = (np.linalg.norm(a.reshape(side * side, heads, -1), axis=2).max() for a in wide[:2])
    largest = max(1.0, query * key / np.sqrt(arrays[0].shape[1] / heads))
    assert_allclose(out, expected, rtol=SYMMETRIC_KL.rtol, atol=SYMMETRIC_KL.atol * largest)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8, 15, 17])
@pytest.mark.parametrize(("width", "heads"), [(1, 1), (6, 2), (16, 2), (34, 2), (65, 5)])
def test_equals_reference_for_odd_sizes(device: HostDevice, side: int, width: int, heads: int) -> None:
    check(device, inputs(side, width, heads), side, heads)


@pytest.mark.parametrize("side", [23, 31, 33])
def test_one_panel_of_keys_two_and_more(device: HostDevice, side: int) -> None:
    check(device, inputs(side, 16, 1), side, 1)


def test_half_precision(device: HostDevice) -> None:
    queries, keys, sigmas = inputs(16, 64, 2)
    check(device, (queries.astype(np.float16), keys.astype(np.float16), sigmas), 16, 2)


@pytest.mark.parametrize("sharpness", [1e-3, 10.0, 1000.0])
def test_flat_and_sharp_correlations(device: HostDevice, sharpness: float) -> None:
    queries, keys, sigmas = inputs(9, 16, 2)
    check(device, (queries * np.float32(sharpness), keys, sigmas), 9, 2)


@pytest.mark.parametrize("sigma", [1e-30, 1.1e-5, 0.137, 2.0, 1e3, 1e30])
def test_narrow_and_wide_neighbourhoods(device: HostDevice, sigma: float) -> None:
    queries, keys, sigmas = inputs(9, 16, 2)
    check(device, (queries, keys, np.full_like(sigmas, sigma)), 9, 2)


def test_rows_go_down_and_columns_across(device: HostDevice) -> None:
    queries, keys, sigmas = inputs(9, 16, 1)
    sigmas[:, 0], sigmas[:, 1] = 0.1, 2.0
    check(device, (queries, keys, sigmas), 9, 1)


def test_layers_are_added_up_in_one_call(device: HostDevice) -> None:
    layers = [inputs(5, 16, 2, seed) for seed in range(3)]
    together = tuple(np.stack(group) for group in zip(*layers, strict=True))
    out, nonfinite = run(device, together, 5, 2, np.zeros(25, np.float32))
    assert nonfinite == 0
    wanted = 0.5 * np.sum([reference.symmetric_kl(*arrays, heads=2, side=5) for arrays in layers], axis=0)
    assert_allclose(out, wanted, rtol=SYMMETRIC_KL.rtol, atol=3 * SYMMETRIC_KL.atol)


@pytest.mark.parametrize(("side", "heads", "value"), [*((5, 2, value) for value in BAD), (33, 1, np.inf)])
def test_nonfinite_inputs_are_counted_and_propagated(device: HostDevice, value: float, side: int, heads: int) -> None:
    clean = inputs(side, 16, heads)
    for which, row in ((0, 7), (1, 24), (2, 13)):
        arrays = tuple(a.copy() for a in clean)
        arrays[which][row, 1] = value
        out, nonfinite = run(device, arrays, side, heads, np.zeros(side * side, np.float32))
        assert nonfinite == 1
        if which == 1:
            assert np.isnan(out).all()
        elif which == 0:
            assert_array_equal(np.flatnonzero(np.isnan(out)), [row])


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_sigmas_that_are_not_positive_are_counted(device: HostDevice, value: float) -> None:
    arrays = inputs(5, 16, 2)
    arrays[2][3, 1] = arrays[2][4, 0] = value
    assert run(device, arrays, 5, 2, np.zeros(25, np.float32))[1] == 2


def test_scores_that_overflow_are_counted(device: HostDevice) -> None:
    arrays = inputs(5, 16, 2)
    arrays[0][3] = arrays[1][4] = 3e38
    assert run(device, arrays, 5, 2, np.zeros(25, np.float32))[1] > 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"queries": np.zeros((24, 16), np.float32)}, ValueError, r"queries: expected shape \(25, d\)"),
        ({"keys": np.zeros((25, 16), np.float16)}, TypeError, r"keys: .*<f4, got <f2"),
        ({"sigmas": np.zeros((25, 2), np.float32)}, ValueError, r"sigmas: expected shape \(1, 25, 4\)"),
        ({"sigmas": np.zeros((25, 4), np.float16)}, TypeError, r"sigmas: .*<f4, got <f2"),
        ({"heads": 3}, ValueError, "heads: expected a divisor of 16"),
        ({"side": 0}, ValueError, "side"),
        ({"weight": float("nan")}, ValueError, "weight"),
        ({"out": np.zeros(24, np.float32)}, ValueError, "out"),
    ],
)
def test_refuses(device: HostDevice, change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = dict(zip(("queries", "keys", "sigmas"), inputs(5, 16, 2), strict=True))
    options = {"heads": 2, "side": 5, "weight": 1.0, "out": np.zeros(25, np.float32)}
    given = {
        name: device.put(value) if isinstance(value, np.ndarray) else value
        for name, value in {**arguments, **options, **change}.items()
    }
    buffers = {"nonfinite": device.counter(), "workspace": device.workspace(1 << 16), "stream": device.stream}
    with pytest.raises(error, match=message):
        device.kernels.symmetric_kl(**given, **buffers)
