"""CUDA `project_maps` equals the CPU's, which test_project.py compares with the reference, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_device import DeviceArray, HostDevice
from numpy.testing import assert_array_equal

from lad_edge.kernels import project_maps
from lad_edge.kernels.resampling import blurred_bilinear

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)
Terms = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], list[float]]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def terms(size: tuple[int, int], *sides: int) -> Terms:
    maps = [normal(side, side + 2, seed=side) for side in sides]
    rows, columns = [normal(size[0], m.shape[0]) for m in maps], [normal(size[1], m.shape[1], seed=1) for m in maps]
    return maps, rows, columns, [0.5, -2.0, 0.25][: len(sides)]


def run(
    device: HostDevice, given: Terms, constant: float | DeviceArray, size: tuple[int, int]
) -> tuple[np.ndarray, list[float]]:
    on_device = [[device.put(x) for x in group] for group in given[:3]]
    out, result = device.empty(size, np.float32), device.empty((4,), np.float64)
    workspace = device.workspace(device.kernels.project_workspace_bytes(size=size))
    buffers = {"result": result, "workspace": workspace, "stream": device.stream}
    device.kernels.project_maps(*on_device, given[3], constant, out, **buffers)
    device.get(workspace)
    return device.get(out), device.get(result).tolist()


def check(device: HostDevice, given: Terms, constant: float, size: tuple[int, int]) -> None:
    expected = np.empty(size, np.float32)
    said = project_maps(*given, constant, expected)
    out, result = run(device, given, constant, size)
    assert_array_equal(out, expected)
    assert result == list(said)


@pytest.mark.parametrize("side", ODD)
@pytest.mark.parametrize("target", ODD)
def test_odd_sizes(device: HostDevice, side: int, target: int) -> None:
    check(device, terms((target, 98 - target), side), 0.3, (target, 98 - target))


def test_several_maps_of_several_sizes(device: HostDevice) -> None:
    check(device, terms((65, 33), 7, 16, 33), -1.0, (65, 33))


def test_blurred_bilinear(device: HostDevice) -> None:
    maps = [np.abs(normal(32, 32)), np.abs(normal(16, 16))]
    enlarge = [blurred_bilinear(m.shape[0], 256, 4.0, border="symmetric", corners=True) for m in maps]
    check(device, (maps, enlarge, enlarge, [0.5, 0.5]), 0.1, (256, 256))


def test_the_constant_may_come_from_a_kernel_before(device: HostDevice) -> None:
    given, size = terms((65, 33), 16), (65, 33)
    for value in (np.float32(-0.7), np.float32(np.nan)):
        expected = run(device, given, float(value) if np.isfinite(value) else 0.0, size)
        out, result = run(device, given, device.put(np.array([value])), size)
        if np.isfinite(value):
            assert_array_equal(out, expected[0])
            assert result == expected[1]
        else:
            assert np.isnan(out).all()
            assert result[1:] == [-1, -1, 65 * 33]


def test_ties_go_to_the_lowest_index(device: HostDevice) -> None:
    two = np.zeros((33, 65), np.float32)
    two[9, 50] = two[9, 51] = two[20, 3] = 1
    identity = [two], [np.eye(33, dtype=np.float32)], [np.eye(65, dtype=np.float32)]
    assert run(device, (*identity, [1.0]), 0.0, two.shape)[1] == [1.0, 9, 50, 0]
    assert run(device, (*identity, [-1.0]), 0.0, two.shape)[1] == [0.0, 0, 0, 0]


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_nonfinite_cells_are_counted_and_reach_no_further_than_their_weights(device: HostDevice, value: float) -> None:
    identity = np.eye(33, dtype=np.float32)
    bad = normal(33, 33)
    bad[4, 31] = value
    given = [bad, normal(33, 33)], [identity] * 2, [identity] * 2, [1.0, 1.0]
    out, result = run(device, given, 0.0, (33, 33))
    assert np.isnan(result[0])
    assert result[1:] == [-1, -1, 1]
    assert_array_equal(np.argwhere(~np.isfinite(out)), [[4, 31]])


def test_overflow_is_counted_in_pixels(device: HostDevice) -> None:
    huge, identity = np.diag([1, 3e38, 1]).astype(np.float32), np.eye(3, dtype=np.float32)
    assert run(device, ([huge], [identity], [identity], [1e9]), 0.0, (3, 3))[1][3] == 1
