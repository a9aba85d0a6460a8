"""The small CUDA steps of csrc/cuda/tails.cu equal those of `lad_edge.kernels.tails`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_device import HostDevice
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import SMALL_MAPS

from lad_edge.kernels import tails

ODD = (1, 15, 17, 33)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 3, shape).astype(np.float32)


def near(found: np.ndarray, expected: np.ndarray) -> None:
    assert_allclose(found, expected, rtol=SMALL_MAPS.rtol, atol=SMALL_MAPS.atol)


def call(device: HostDevice, name: str, outputs: dict[str, np.ndarray], *arrays: np.ndarray, **given: Any) -> Any:
    """The outputs of a step on the device, from arrays of the host."""
    on_device = {key: device.empty(out.shape, out.dtype) for key, out in outputs.items()}
    constants = {key: device.put(g) if isinstance(g, np.ndarray) else g for key, g in given.items()}
    step = getattr(device.kernels, name)
    step(*(device.put(a) for a in arrays), **constants, **on_device, stream=device.stream)
    return [device.get(out) for out in on_device.values()]


@pytest.mark.parametrize("width", ODD)
@pytest.mark.parametrize("count", ODD)
def test_take_rows(device: HostDevice, count: int, width: int) -> None:
    table, codes = random(7, width), np.random.default_rng(1).integers(0, 9, count).astype(np.uint16)
    expected = np.zeros((count, width), np.float32)
    tails.take_rows(table, codes, out=expected)
    (found,) = call(device, "take_rows", {"out": expected}, table, codes)
    assert_array_equal(found, expected)


@pytest.mark.parametrize("side", ODD)
@pytest.mark.parametrize("from_largest", [True, False])
def test_modulate(device: HostDevice, side: int, from_largest: bool) -> None:
    error, divergence = random(side, side), random(side * side, seed=1) * 4
    expected = np.zeros_like(error)
    tails.modulate(error, divergence, from_largest=from_largest, out=expected)
    (found,) = call(device, "modulate", {"out": expected}, error, divergence, from_largest=from_largest)
    near(found, expected)


def test_a_divergence_that_is_not_a_number_leaves_none(device: HostDevice) -> None:
    error, divergence = random(17, 17), random(289)
    divergence[200] = np.nan
    (found,) = call(device, "modulate", {"out": error}, error, divergence, from_largest=False)
    assert np.isnan(found).all()


@pytest.mark.parametrize("half", ODD)
def test_larger_of_regions(device: HostDevice, half: int) -> None:
    fine, coarse = random(2 * half, 2 * half), random(half, half, seed=1)
    fine[0, 0] = np.nan
    expected = np.zeros_like(fine)
    tails.larger_of_regions(fine, coarse, scales=(0.3, 0.25), out=expected)
    (found,) = call(device, "larger_of_regions", {"out": expected}, fine, coarse, scales=(0.3, 0.25))
    assert_array_equal(found, expected)
    assert np.isnan(found[0, 0])


@pytest.mark.parametrize("side", ODD)
@pytest.mark.parametrize("masks", [1, 6, 33])
def test_mask_maps(device: HostDevice, side: int, masks: int) -> None:
    statistics = {"means": random(masks, seed=1), "scales": random(masks, seed=2), "shares": random(masks, side**2)}
    expected = {"roots": np.zeros((side, side), np.float32), "heat": np.zeros((side, side), np.float32)}
    expected["mean_deviation"] = np.zeros(1, np.float32)
    distances, scores = random(side, side, seed=3), random(masks, seed=4)
    tails.mask_maps(distances, scores, channels=5, **statistics, **expected)
    found = call(device, "mask_maps", expected, distances, scores, channels=5, **statistics)
    for of_device, of_host in zip(found, expected.values(), strict=True):
        assert_allclose(of_device, of_host, rtol=SMALL_MAPS.rtol, atol=SMALL_MAPS.atol * masks)


@pytest.mark.parametrize("peak", [-2.0, 0.4, 3.0])
@pytest.mark.parametrize("deviation", [-1.0, 0.2, 5.0])
def test_join_branches(device: HostDevice, peak: float, deviation: float) -> None:
    standards = {"scale": (1.5, 2.0), "offset": (-0.5, 0.25), "drawn_offset": (0.1, -0.2)}
    expected = {"scores": np.zeros(3), "constants": np.zeros(2, np.float32), "most": np.zeros(2, np.float32)}
    mean = np.array([deviation], np.float32)
    tails.join_branches(peak, mean, **standards, **expected)
    found = call(device, "join_branches", expected, np.array([peak, 7, 8, 0.0]), mean, **standards)
    for of_device, of_host in zip(found, expected.values(), strict=True):
        near(of_device, of_host)


def test_the_weaker_branch_is_drawn_as_it_is_and_the_stronger_one_with_it_on_top() -> None:
    scores, constants, most = np.zeros(3), np.zeros(2, np.float32), np.zeros(2, np.float32)
    plain = {"scale": (1.0, 1.0), "offset": (0.0, 0.0), "drawn_offset": (0.5, 0.25)}
    tails.join_branches(3.0, np.array([1], np.float32), **plain, scores=scores, constants=constants, most=most)
    assert scores.tolist() == [4, 3, 1]
    assert constants.tolist() == [1.5, 0.25]
    assert most.tolist() == [4, 1]


@pytest.mark.parametrize("count", [1, 255, 257, 1000])
def test_larger_capped(device: HostDevice, count: int) -> None:
    first, second, most = random(count), random(count, seed=1), np.array([1.5, 2.0], np.float32)
    first[0] = np.nan
    expected = np.zeros_like(first)
    tails.larger_capped(first.copy(), second.copy(), most, out=expected)
    (found,) = call(device, "larger_capped", {"out": expected}, first, second, most)
    assert_array_equal(found, expected)
