"""CUDA `Preprocess` equals the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_device import HostDevice
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import HALF_PRECISION, PREPROCESS

from lad_edge.kernels import reference

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPTIONS = {"swap_rb": True, "mean": MEAN, "std": STD}
ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)


def random_image(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


class View:
    """A part of a device array: the same memory, another first pixel and shape."""

    def __init__(self, whole: Any, x: int, y: int, shape: tuple[int, ...], step: int = 1) -> None:
        interface = whole.__cuda_array_interface__
        pitch, channels = int(np.prod(interface["shape"][1:])), shape[2]
        self.interface = interface | {
            "data": (interface["data"][0] + y * pitch + x * channels, False),
            "shape": shape,
            "strides": (step * pitch, channels, 1),
        }

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self.interface)


def run(device: HostDevice, image: Any, shape: tuple[int, ...], size: tuple[int, int], **options: Any) -> np.ndarray:
    kind = options.pop("kind", np.float32)
    plan = device.kernels.Preprocess(shape, size, **options)
    tables, out = device.workspace(plan.table_bytes), device.empty((3, *size), kind)
    plan.prepare(tables, stream=device.stream)
    plan(image, out, stream=device.stream)
    device.get(tables)
    return device.get(out)


def check(device: HostDevice, image: np.ndarray, size: tuple[int, int], **options: Any) -> None:
    got = run(device, device.put(image), image.shape, size, **OPTIONS, **options)
    by_reference = reference.preprocess(image, size, **OPTIONS, **options)
    assert_allclose(got, by_reference, rtol=PREPROCESS.rtol, atol=PREPROCESS.atol)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", ODD)
@pytest.mark.parametrize("target", ODD)
def test_equals_reference_for_odd_sizes(device: HostDevice, side: int, target: int, channels: int) -> None:
    check(device, random_image(side, 98 - side, channels), (target % 20 + 1, target))


@pytest.mark.parametrize("size", [(3, 5), (2, 200)])
def test_rows_of_more_bytes_than_a_block_takes_at_once(device: HostDevice, size: tuple[int, int]) -> None:
    check(device, random_image(9, 1500, 3), size)
    check(device, random_image(9, 5001), size)


@pytest.mark.parametrize("roi", [(0, 0, 1, 1), (17, 5, 97, 64), (160, 119, 1, 1), (3, 0, 158, 120)])
def test_roi(device: HostDevice, roi: tuple[int, int, int, int]) -> None:
    check(device, random_image(120, 161, 3), (33, 31), roi=roi)
    check(device, random_image(120, 164, 3), (33, 31), roi=roi)
    check(device, random_image(120, 161), (33, 31), roi=roi)


@pytest.mark.parametrize("whole", [(90, 200, 3), (90, 201, 3), (90, 200, 1)])
def test_row_pitch_of_a_view_is_honoured(device: HostDevice, whole: tuple[int, int, int]) -> None:
    image = random_image(*whole)
    on_device = device.put(image)
    for x, y, step in ((20, 10, 1), (21, 0, 2), (119, 89, -1)):
        expected = np.ascontiguousarray(image[y : y + 60 * step if step > 0 else None : step, x : x + 81][:30])
        view = View(on_device, x, y, expected.shape, step)
        got = run(device, view, expected.shape, (11, 13), **OPTIONS)
        assert_allclose(
            got, reference.preprocess(expected, (11, 13), **OPTIONS), rtol=PREPROCESS.rtol, atol=PREPROCESS.atol
        )


def test_half_precision_is_the_rounded_result(device: HostDevice) -> None:
    image = random_image(64, 64, 3)
    half = run(device, device.put(image), image.shape, (33, 31), **OPTIONS, kind=np.float16)
    whole = run(device, device.put(image), image.shape, (33, 31), **OPTIONS)
    assert_array_equal(half, whole.astype(np.float16))
    assert_allclose(half, whole, rtol=HALF_PRECISION.rtol, atol=HALF_PRECISION.atol)


def test_a_plan_without_tables_on_the_device_is_refused(device: HostDevice) -> None:
    plan = device.kernels.Preprocess((8, 8, 3), (4, 4), **OPTIONS)
    with pytest.raises(RuntimeError, match="call prepare"):
        plan(device.put(random_image(8, 8, 3)), device.empty((3, 4, 4), np.float32), stream=device.stream)
    with pytest.raises(ValueError, match="tables: expected"):
        plan.prepare(device.workspace(16), stream=device.stream)


def test_wrong_arrays_are_refused(device: HostDevice) -> None:
    plan = device.kernels.Preprocess((8, 8, 3), (4, 4), **OPTIONS)
    plan.prepare(device.workspace(plan.table_bytes), stream=device.stream)
    image, out = device.put(random_image(8, 8, 3)), device.empty((3, 4, 4), np.float32)
    with pytest.raises(ValueError, match=r"image: expected shape \(8, 8, 3\)"):
        plan(device.put(random_image(8, 9, 3)), out, stream=device.stream)
    with pytest.raises(TypeError, match=r"image: .*u1"):
        plan(device.zeros((8, 8, 3), np.uint16), out, stream=device.stream)
    with pytest.raises(TypeError, match=r"out: .*<f4 or <f2"):
        plan(image, device.empty((3, 4, 4), np.float64), stream=device.stream)
    with pytest.raises(ValueError, match=r"out: expected shape \(3, 4, 4\)"):
        plan(image, device.empty((3, 4, 5), np.float32), stream=device.stream)
