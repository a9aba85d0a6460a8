"""CUDA `MaskedRidge` gives the distances of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_device import DeviceArray, HostDevice
from numpy.testing import assert_allclose, assert_array_equal
from ridges import WRONG_TABLES, normal, plain_tables, random_tables
from tolerances import MASKED_RIDGE

from lad_edge.kernels import RidgeTables, reference


def outputs(device: HostDevice, side: int) -> list[DeviceArray]:
    """Fine, coarse and own, to be overwritten."""
    return [device.empty((n, n), np.float32) for n in (side, side // 2, side)]


def run(device: HostDevice, tables: RidgeTables, cells: np.ndarray) -> tuple[list[np.ndarray], int]:
    """The three maps, and what was counted."""
    plan = device.kernels.MaskedRidge(tables)
    on_device, workspace = device.workspace(plan.table_bytes), device.workspace(plan.workspace_bytes)
    plan.prepare(on_device, stream=device.stream)
    out, nonfinite = outputs(device, cells.shape[1]), device.counter()
    plan(device.put(cells), *out, nonfinite=nonfinite, workspace=workspace, stream=device.stream)
    device.get(workspace)
    return [device.get(distance) for distance in out], int(device.get(nonfinite)[0])


def check(device: HostDevice, tables: RidgeTables, cells: np.ndarray) -> None:
    """Equal to float64 within the rounding of the tables, relative to the largest distance."""
    distances, nonfinite = run(device, tables, cells)
    assert nonfinite == 0
    for got, expected in zip(distances, reference.masked_ridge(cells, tables), strict=True):
        assert_allclose(got, expected, rtol=MASKED_RIDGE.rtol, atol=MASKED_RIDGE.atol * expected.max())


@pytest.mark.parametrize("side", [2, 4, 6, 16])
@pytest.mark.parametrize("channels", [1, 3, 17, 33, 152])
def test_distances_equal_reference_for_odd_sizes(device: HostDevice, side: int, channels: int) -> None:
    for r, q in ((1, 48), (5, 5), (17, 33), (48, 1)):
        check(device, random_tables(side, channels, r, q), normal(channels, side, side, seed=8))


@pytest.mark.parametrize("channels", [255, 256, 257, 600])
def test_more_channels_than_a_block_holds_at_a_time(device: HostDevice, channels: int) -> None:
    check(device, random_tables(4, channels, 33, 5), normal(channels, 4, 4, seed=8))


def test_half_precision_cells_are_taken(device: HostDevice) -> None:
    cells = normal(33, 6, 6, seed=8).astype(np.float16)
    tables = random_tables(6, 33, 17, 5)
    for got, wide in zip(run(device, tables, cells)[0], run(device, tables, cells.astype(np.float32))[0], strict=True):
        assert_array_equal(got, wide)


def test_context_of_rows_of_very_different_size_is_not_lost(device: HostDevice) -> None:
    """The first numbers of the context are a million times the last ones, and what is made of them is as much less."""
    tables, size = random_tables(6, 33, 8, 5), np.logspace(3, -3, 8).astype(np.float32)[:, None]
    wide = tables._replace(context=tables.context * size, prediction=tables.prediction / size)
    check(device, wide, normal(33, 6, 6, seed=8))


def test_one_cell_shows_at_its_place_only(device: HostDevice) -> None:
    cells = np.zeros((2, 6, 6), np.float32)
    cells[:, 3, 4] = 3, 4
    fine, coarse, own = run(device, plain_tables(6, 2), cells)[0]
    for distance, place, expected in ((fine, (3, 4), 5), (coarse, (1, 2), 5 / 4), (own, (3, 4), 5)):
        assert distance[place] == expected
        assert np.count_nonzero(distance) == 1


def test_directions_longer_than_1_make_no_negative_distance(device: HostDevice) -> None:
    tables = plain_tables(2, 3)
    long = tables._replace(fine_directions=tables.fine_directions + 2, coarse_directions=tables.coarse_directions + 2)
    for distance in run(device, long, np.ones((3, 2, 2), np.float32))[0]:
        assert_array_equal(distance, 0)


def test_one_plan_serves_many_frames_and_adds_what_it_counts(device: HostDevice) -> None:
    tables, cells = random_tables(6, 33, 17, 5), normal(33, 6, 6, seed=8)
    expected, _ = run(device, tables, cells)
    cells[3, 2, 1] = np.nan
    plan = device.kernels.MaskedRidge(tables)
    on_device, workspace = device.workspace(plan.table_bytes), device.workspace(plan.workspace_bytes)
    plan.prepare(on_device, stream=device.stream)
    bad, good = outputs(device, 6), outputs(device, 6)
    frames = [(device.put(cells), bad), (device.put(normal(33, 6, 6, seed=8)), good)]
    buffers = {"nonfinite": device.counter(), "workspace": workspace, "stream": device.stream}

    def enqueue() -> None:
        for frame, out in frames:
            plan(frame, *out, **buffers)

    device.run_twice(enqueue)
    assert device.get(buffers["nonfinite"])[0] == 2
    assert all(np.isnan(device.get(distance)).all() for distance in bad)
    for got, wanted in zip(good, expected, strict=True):
        assert_array_equal(device.get(got), wanted)


# ---- values that are not finite


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_nonfinite_values_are_counted_and_make_every_distance_nan(device: HostDevice, value: float, kind: type) -> None:
    cells = normal(33, 6, 6, seed=8).astype(kind)
    cells[0, 0, 0] = cells[32, 5, 5] = cells[7, 2, 3] = value
    distances, nonfinite = run(device, random_tables(6, 33, 5, 5), cells)
    assert nonfinite == 3
    assert all(np.isnan(distance).all() for distance in distances)


def test_nonfinite_values_that_no_table_looks_at_are_counted_too(device: HostDevice) -> None:
    tables, cells = plain_tables(4, 3), np.zeros((3, 4, 4), np.float32)
    cells[1, 2, 3] = np.inf
    distances, nonfinite = run(device, tables._replace(scale=np.zeros(3, np.float32)), cells)
    assert nonfinite == 1
    assert all(np.isnan(distance).all() for distance in distances)


def test_overflow_of_finite_values_is_counted_and_shows_as_nan_at_its_place(device: HostDevice) -> None:
    cells = np.zeros((2, 4, 4), np.float32)
    cells[1, 2, 1] = 3e38
    distances, nonfinite = run(device, plain_tables(4, 2), cells)
    assert nonfinite == 3  # fine, coarse and own
    for distance, place in zip(distances, ((2, 1), (1, 0), (2, 1)), strict=True):
        assert np.isnan(distance[place])
        assert np.isnan(distance).sum() == 1


def test_overflow_of_finite_tables_is_counted(device: HostDevice) -> None:
    tables = random_tables(4, 2, 3, 2)
    huge = tables._replace(
        prediction=tables.prediction * np.float32(1e38), whitening=tables.whitening + np.float32(1e3)
    )
    assert run(device, huge, normal(2, 4, 4, seed=8))[1] > 0


# ---- what is refused


@pytest.mark.parametrize(("change", "error", "message"), WRONG_TABLES)
def test_wrong_tables_are_refused(
    device: HostDevice, change: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        device.kernels.MaskedRidge(random_tables(4, 3, 2, 5)._replace(**change))


def test_what_is_no_tables_is_refused(device: HostDevice) -> None:
    with pytest.raises(TypeError, match=r"tables: expected a lad_edge\.kernels\.RidgeTables, got list"):
        device.kernels.MaskedRidge(list(random_tables(4, 3, 2, 5)))


def test_wrong_calls_are_refused(device: HostDevice) -> None:
    plan = device.kernels.MaskedRidge(random_tables(4, 3, 2, 5))
    arrays = dict(zip(("fine", "coarse", "own"), outputs(device, 4), strict=True))
    right = arrays | {"cells": device.zeros((3, 4, 4), np.float32), "nonfinite": device.counter()}
    right |= {"workspace": device.workspace(plan.workspace_bytes), "stream": device.stream}
    with pytest.raises(RuntimeError, match="the tables are not on the device yet"):
        plan(**right)
    plan.prepare(device.workspace(plan.table_bytes), stream=device.stream)
    with pytest.raises(ValueError, match=r"cells: expected shape \(3, 4, 4\), got \(3, 4, 6\)"):
        plan(**right | {"cells": device.zeros((3, 4, 6), np.float32)})
    with pytest.raises(TypeError, match=r"cells: .*<f4 or <f2, got <f8"):
        plan(**right | {"cells": device.zeros((3, 4, 4), np.float64)})
    with pytest.raises(ValueError, match=r"coarse: expected shape \(2, 2\)"):
        plan(**right | {"coarse": right["fine"]})
    with pytest.raises(TypeError, match=r"own: .*<f4, got <f2"):
        plan(**right | {"own": device.empty((4, 4), np.float16)})
    with pytest.raises(ValueError, match=r"workspace: expected .* writable bytes"):
        plan(**right | {"workspace": device.workspace(plan.workspace_bytes - 1)})
    with pytest.raises(ValueError, match=r"tables: expected .* writable bytes"):
        plan.prepare(device.workspace(plan.table_bytes - 1), stream=device.stream)
