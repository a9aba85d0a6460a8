"""CUDA `fuse` and `fuse_places` equal the CPU's, which test_maps.py compares with the reference, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_device import HostDevice
from numpy.testing import assert_array_equal

from lad_edge import kernels

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)
PLAIN = {"scale": (30.0, 20.0), "offset": (-0.1, -0.2), "sigmoid": False, "border": 4, "border_mode": "zero"}


def random_maps(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(sum(shape)).random((2, *shape), np.float32) * np.float32(0.02)
    return first, second


def random_places(height: int, width: int) -> np.ndarray:
    usual, weight = np.random.default_rng(3).random((2, 2, height, width), np.float32) * np.float32(0.02)
    return np.stack([usual, 1000 * weight])


def check(device: HostDevice, name: str, maps: tuple[np.ndarray, ...], size: tuple[int, int], **options: Any) -> None:
    """The device's `fuse` or `fuse_places` against the CPU's, with the map and without it."""
    expected_map = np.empty(size, np.float32)
    wide = [np.ascontiguousarray(m, np.float32) for m in maps]
    expected = getattr(kernels, name)(*wide, size=size, out=expected_map, **options)
    on_device = {k: device.put(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    for out in (device.empty(size, np.float32), None):
        result = device.empty((6,), np.float64)
        workspace = device.workspace(device.kernels.fuse_workspace_bytes(size=size))
        buffers = {"out": out, "result": result, "workspace": workspace, "stream": device.stream}
        getattr(device.kernels, name)(*map(device.put, maps), size=size, **on_device, **buffers)
        assert_array_equal(device.get(result), np.array(expected, np.float64))
        device.get(workspace)
        if out is not None:
            assert_array_equal(device.get(out), expected_map)


@pytest.mark.parametrize("side", ODD)
@pytest.mark.parametrize("target", ODD)
def test_fuse_for_odd_sizes(device: HostDevice, side: int, target: int) -> None:
    check(device, "fuse", random_maps(side, 33), (target, 98 - target), **PLAIN)


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("border_mode", ["zero", "replicate"])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_fuse_at_full_size(device: HostDevice, sigmoid: bool, border_mode: str, kind: type) -> None:
    maps = tuple(m.astype(kind) for m in random_maps(56, 56))
    check(device, "fuse", maps, (256, 256), **{**PLAIN, "sigmoid": sigmoid, "border_mode": border_mode})


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("position", [(0, 0), (0, 15), (16, 32), (32, 32)])
def test_nonfinite_cells(device: HostDevice, value: float, position: tuple[int, int], sigmoid: bool) -> None:
    structural, logical = random_maps(33, 33)
    logical[position] = value
    options = {**PLAIN, "sigmoid": sigmoid}
    check(device, "fuse", (structural, logical), (64, 65), **options)
    check(device, "fuse", (logical, logical), (5, 3), **options)
    places = {"places": random_places(33, 33), "border": 4, "border_mode": "zero"}
    check(device, "fuse_places", (logical, structural), (5, 3), **places)


def test_ties_go_to_the_lowest_index(device: HostDevice) -> None:
    flat = np.full((9, 9), 0.3, np.float32)
    check(device, "fuse", (flat, flat), (100, 130), **{**PLAIN, "border": 0})
    two = np.zeros((16, 160), np.float32)
    two[3, 142] = two[11, 2] = 1
    check(device, "fuse", (two, two), (16, 160), **{**PLAIN, "border": 0})
    check(device, "fuse", (-two - 1, -two - 1), (16, 160), **{**PLAIN, "border": 0, "scale": (1.0, 1.0)})


@pytest.mark.parametrize("border_mode", ["zero", "replicate"])
@pytest.mark.parametrize("size", [(256, 256), (61, 97), (5, 3)])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_fuse_places(device: HostDevice, size: tuple[int, int], border_mode: str, kind: type) -> None:
    maps = tuple(m.astype(kind) for m in random_maps(33, 31))
    check(device, "fuse_places", maps, size, places=random_places(33, 31), border=4, border_mode=border_mode)
