from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from ridges import WRONG_TABLES, normal, plain_tables, random_tables
from tolerances import MASKED_RIDGE

from lad_edge.kernels import MaskedRidge, RidgeTables, _cpu, reference


def outputs(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fine, coarse and own, to be overwritten."""
    fine, coarse, own = (np.full((n, n), -1, np.float32) for n in (side, side // 2, side))
    return fine, coarse, own


def distances(tables: RidgeTables, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    out = outputs(cells.shape[1])
    assert MaskedRidge(tables)(cells, *out) == 0
    return out


def check(tables: RidgeTables, cells: np.ndarray) -> None:
    """Equal to float64 within the rounding of the tables, relative to the largest distance."""
    for got, expected in zip(distances(tables, cells), reference.masked_ridge(cells, tables), strict=True):
        assert_allclose(got, expected, rtol=MASKED_RIDGE.rtol, atol=MASKED_RIDGE.atol * expected.max())


@pytest.mark.parametrize("side", [2, 4, 6, 16])
@pytest.mark.parametrize("channels", [1, 3, 17, 33, 152])
def test_distances_equal_reference_for_odd_sizes(isa: str, side: int, channels: int) -> None:
    for r, q in ((1, 48), (5, 5), (17, 33), (48, 1)):
        check(random_tables(side, channels, r, q), normal(channels, side, side, seed=8))


def test_context_of_rows_of_very_different_size_is_not_lost(isa: str) -> None:
    """The first numbers of the context are a million times the last ones, and what is made of them is as much less."""
    tables = random_tables(6, 33, 8, 5)
    size = np.logspace(3, -3, 8).astype(np.float32)[:, None]
    check(tables._replace(context=tables.context * size, prediction=tables.prediction / size), normal(33, 6, 6, seed=8))


def test_no_region_is_predicted_from_itself(isa: str) -> None:
    tables, cells = random_tables(4, 3, 2, 2), normal(3, 4, 4, seed=8)
    tables.context[1:] = 0  # all that is told of the picture comes from the first region
    alone = tables._replace(prediction=0 * tables.prediction)
    differs = distances(tables, cells)[0] != distances(alone, cells)[0]
    assert not differs[:2, :2].any()
    assert differs[2:].all()
    assert differs[:, 2:].all()


# ---- what the distances mean


def test_one_cell_shows_at_its_place_only(isa: str) -> None:
    cells = np.zeros((2, 6, 6), np.float32)
    cells[:, 3, 4] = 3, 4
    fine, coarse, own = distances(plain_tables(6, 2), cells)
    for distance, place, expected in ((fine, (3, 4), 5), (coarse, (1, 2), 5 / 4), (own, (3, 4), 5)):
        assert distance[place] == expected
        assert np.count_nonzero(distance) == 1


def test_parts_as_expected_have_distance_0(isa: str) -> None:
    tables = random_tables(6, 17, 5, 5)
    cells = np.ascontiguousarray(reference.cell_map(tables.mean[..., 0])[None].repeat(17, 0), np.float32)
    even = tables._replace(mean=np.ascontiguousarray(tables.mean[..., :1].repeat(17, 2)))
    for distance in distances(even, cells):
        assert_array_equal(distance, 0)


def test_deviations_along_a_direction_count_less(isa: str) -> None:
    gamma, directions = 0.96, np.zeros((4, 4, 1, 3), np.float32)
    directions[..., 1] = gamma**0.5
    tables = plain_tables(4, 3)._replace(fine_directions=directions)
    cells = np.zeros((3, 4, 4), np.float32)
    cells[0, 0, 0] = cells[1, 3, 3] = 1
    fine, _, own = distances(tables, cells)
    for distance in (fine, own):
        assert distance[0, 0] == 1
        assert_allclose(distance[3, 3], (1 - gamma) ** 0.5, rtol=MASKED_RIDGE.atol)


def test_directions_longer_than_1_make_no_negative_distance(isa: str) -> None:
    tables = plain_tables(2, 3)
    long = tables._replace(fine_directions=tables.fine_directions + 2, coarse_directions=tables.coarse_directions + 2)
    for distance in distances(long, np.ones((3, 2, 2), np.float32)):
        assert_array_equal(distance, 0)


def test_all_instruction_sets_give_the_same_bits() -> None:
    ridge, cells = MaskedRidge(random_tables(16, 152, 33, 17)), normal(152, 16, 16, seed=8)
    results, before = [], _cpu.isa()
    for name in _cpu.isas():
        _cpu.use_isa(name)
        out = outputs(16)
        ridge(cells, *out)
        results.append(b"".join(distance.tobytes() for distance in out))
    _cpu.use_isa(before)
    assert len(set(results)) == 1


# ---- values that are not finite, tables, threads


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_nonfinite_values_are_counted_and_make_every_distance_nan(isa: str, value: float) -> None:
    cells = normal(33, 6, 6, seed=8)
    cells[0, 0, 0] = cells[32, 5, 5] = cells[7, 2, 3] = value
    out = outputs(6)
    assert MaskedRidge(random_tables(6, 33, 5, 5))(cells, *out) == 3
    assert all(np.isnan(distance).all() for distance in out)


def test_overflow_of_finite_values_is_counted(isa: str) -> None:
    cells = np.zeros((2, 4, 4), np.float32)
    cells[1, 2, 1] = 3e38
    out = outputs(4)
    assert MaskedRidge(plain_tables(4, 2))(cells, *out) == 3  # fine, coarse and own of its place
    assert all(np.isnan(distance).all() for distance in out)


def test_overflow_of_finite_tables_is_counted(isa: str) -> None:
    tables = random_tables(4, 2, 3, 2)
    huge = tables._replace(
        prediction=tables.prediction * np.float32(1e38), whitening=tables.whitening + np.float32(1e3)
    )
    assert MaskedRidge(huge)(normal(2, 4, 4, seed=8), *outputs(4)) > 0


def test_tables_are_copied(isa: str) -> None:
    tables, cells = random_tables(6, 17, 5, 5), normal(17, 6, 6, seed=8)
    expected, ridge, out = distances(tables, cells), MaskedRidge(tables), outputs(6)
    for table in tables:
        table[:] = 0
    assert ridge(cells, *out) == 0
    for got, wanted in zip(out, expected, strict=True):
        assert_array_equal(got, wanted)


def test_threads_may_share_one_and_use_several() -> None:
    wide, small = MaskedRidge(random_tables(6, 33, 5, 5)), MaskedRidge(random_tables(4, 17, 17, 1))
    inputs = [(ridge, normal(*shape)) for ridge, shape in ((wide, (33, 6, 6)), (small, (17, 4, 4)))]
    expected = [outputs(cells.shape[1]) for _, cells in inputs]
    for (ridge, cells), out in zip(inputs, expected, strict=True):
        ridge(cells, *out)
    right: list[bool] = []

    def work(first: int) -> None:
        for turn in range(50):
            (ridge, cells), wanted = inputs[(first + turn) % 2], expected[(first + turn) % 2]
            out = outputs(cells.shape[1])
            ridge(cells, *out)
            right.append(all((got == want).all() for got, want in zip(out, wanted, strict=True)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 200


# ---- what is refused


@pytest.mark.parametrize(("change", "error", "message"), WRONG_TABLES)
def test_wrong_tables_are_refused(change: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MaskedRidge(random_tables(4, 3, 2, 5)._replace(**change))


def test_what_is_no_tables_is_refused() -> None:
    with pytest.raises(TypeError, match=r"tables: expected a lad_edge\.kernels\.RidgeTables, got list"):
        MaskedRidge(list(random_tables(4, 3, 2, 5)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cells": np.zeros((3, 4, 4))}, TypeError, "cells: expected a C-contiguous float32"),
        ({"cells": np.zeros((3, 4, 6), np.float32)}, ValueError, r"cells: expected shape \(3, 4, 4\), got \(3, 4, 6\)"),
        ({"fine": np.zeros((4, 4))}, TypeError, "fine"),
        ({"fine": np.zeros((2, 2), np.float32)}, ValueError, r"fine: expected shape \(4, 4\)"),
        ({"coarse": np.zeros((4, 4), np.float32)}, ValueError, r"coarse: expected shape \(2, 2\)"),
        ({"own": np.broadcast_to(np.zeros(1, np.float32), (4, 4))}, TypeError, "own"),
    ],
)
def test_wrong_calls_are_refused(change: dict[str, np.ndarray], error: type[Exception], message: str) -> None:
    right = dict(zip(("cells", "fine", "coarse", "own"), (normal(3, 4, 4), *outputs(4)), strict=True))
    with pytest.raises(error, match=message):
        MaskedRidge(random_tables(4, 3, 2, 5))(**right | change)
