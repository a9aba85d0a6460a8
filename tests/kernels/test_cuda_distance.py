"""CUDA `distance_map` equals the reference, and values that are not finite are counted."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_device import HostDevice
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import DISTANCE_MAP_COSINE

from lad_edge.kernels import reference

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)
BAD = (np.nan, -np.nan, np.inf, -np.inf)


def features(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def distances(device: HostDevice, a: np.ndarray, b: np.ndarray, cosine: float) -> tuple[np.ndarray, int]:
    out, nonfinite = device.empty(a.shape[-2:], np.float32), device.counter()
    buffers = {"out": out, "nonfinite": nonfinite, "stream": device.stream}
    device.kernels.distance_map(device.put(a), device.put(b), cosine=cosine, **buffers)
    return device.get(out), int(device.get(nonfinite)[0])


def check(device: HostDevice, a: np.ndarray, b: np.ndarray, cosine: float) -> None:
    out, nonfinite = distances(device, a, b, cosine)
    assert nonfinite == 0
    expected = reference.distance_map(*(x.astype(np.float32) for x in (a, b)), cosine=cosine)
    atol = DISTANCE_MAP_COSINE.atol * cosine
    assert_allclose(out, expected, rtol=DISTANCE_MAP_COSINE.rtol, atol=atol)


@pytest.mark.parametrize("channels", [1, 3, 40])
@pytest.mark.parametrize("width", ODD)
@pytest.mark.parametrize("cosine", [0.0, 5.0])
def test_equals_reference_for_odd_sizes(device: HostDevice, channels: int, width: int, cosine: float) -> None:
    check(device, features(channels, 3, width), features(channels, 3, width, seed=1), cosine)


@pytest.mark.parametrize("positions", [(24, 24), (8, 4), (65, 64)])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("cosine", [0.0, 0.5])
def test_equals_reference_in_vectors(device: HostDevice, positions: tuple[int, int], kind: type, cosine: float) -> None:
    a, b = (features(65, *positions, seed=seed).astype(kind) for seed in range(2))
    check(device, a, b, cosine)


def test_384_channels_and_a_batch_of_one(device: HostDevice) -> None:
    a, b = features(384, 24, 24), features(384, 24, 24, seed=1)
    check(device, a, b, 0.0)
    out, _ = distances(device, a[None], b[None], 0.0)
    assert_array_equal(out, distances(device, a, b, 0.0)[0])


def test_close_features_do_not_cancel(device: HostDevice) -> None:
    a = features(384, 5, 16) + 50
    check(device, a, a + features(384, 5, 16, seed=1) * np.float32(1e-3), 0.5)


def test_norms_are_clamped_each_as_in_torch(device: HostDevice) -> None:
    a, b = np.zeros((2, 1, 3), np.float32), np.zeros((2, 1, 3), np.float32)
    a[0, 0], b[0, 0] = (0, 1e-9, 1), (1, 1e-9, 1)
    out, nonfinite = distances(device, a, b, 2.0)
    assert nonfinite == 0
    assert_allclose(out[0], [0.5 + 2, 2 * (1 - 0.01), 0], rtol=DISTANCE_MAP_COSINE.rtol)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(("channel", "position"), [(0, 0), (3, 15), (6, 95)])
@pytest.mark.parametrize("cosine", [0.0, 0.5])
def test_nonfinite_positions_are_counted(
    device: HostDevice, value: float, channel: int, position: int, cosine: float
) -> None:
    a, b = features(7, 1, 96), features(7, 1, 96, seed=1)
    b[channel, 0, position] = value
    out, nonfinite = distances(device, a, b, cosine)
    assert nonfinite == 1
    assert_array_equal(np.flatnonzero(~np.isfinite(out)), [position])


def test_a_norm_that_overflows_does_not_pass_for_a_right_angle(device: HostDevice) -> None:
    a, b = np.zeros((2, 1, 1), np.float32), np.zeros((2, 1, 1), np.float32)
    a[0], b[0] = 2e19, 2e18
    out, nonfinite = distances(device, a, b, 0.5)
    assert nonfinite == 1
    assert np.isnan(out[0, 0])


def test_half_precision_is_summed_in_float32(device: HostDevice) -> None:
    """methods.md 7.2: squares of raw features leave float16."""
    a, b = np.full((512, 2, 8), 300, np.float16), np.zeros((512, 2, 8), np.float16)
    out, nonfinite = distances(device, a, b, 0.0)
    assert nonfinite == 0
    assert_array_equal(out, np.full((2, 8), 90000, np.float32))


@pytest.mark.parametrize("count", [*ODD, 4096])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_nonfinite_values_are_added_to_the_count(device: HostDevice, count: int, kind: type) -> None:
    values = features(count).astype(kind)
    nonfinite = device.counter()
    device.kernels.count_nonfinite(device.put(values), nonfinite=nonfinite, stream=device.stream)
    assert device.get(nonfinite).tolist() == [0]
    values[[0, count // 2, -1]] = BAD[:3]
    device.kernels.count_nonfinite(device.put(values), nonfinite=nonfinite, stream=device.stream)
    device.kernels.count_nonfinite(device.put(values), nonfinite=nonfinite, stream=device.stream)
    assert device.get(nonfinite).tolist() == [2 * int((~np.isfinite(values)).sum())]
