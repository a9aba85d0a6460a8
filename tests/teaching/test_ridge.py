"""Each identity of the fit against the long way round, and what it finds on parts whose places depend on each other."""

from __future__ import annotations

import numpy as np
import pytest

from lad_edge.kernels import reference
from lad_edge.teaching import ridge
from lad_edge.teaching.stored import pack, unpack


def parts(count: int, channels: int = 6, side: int = 4, seed: int = 0) -> np.ndarray:
    """(count, channels, side, side): every place repeats three numbers of the part, in its own mixture, with a little noise."""
    rng = np.random.default_rng(seed)
    mixtures = np.random.default_rng(99).normal(size=(3, channels, side, side))
    hidden = rng.normal(size=(count, 3))
    return (np.tensordot(hidden, mixtures, 1) + 0.1 * rng.normal(size=(count, channels, side, side))).astype(np.float32)


def centred_regions(cells):
    z = ridge.regions_of(cells.astype(np.float64))
    return (z - z.mean(2, keepdims=True)) / z.std((0, 1, 2))


@pytest.mark.parametrize("count", [7, 12, 40])
def test_leave_one_out_residuals_are_those_of_refits_without_the_part(count):
    centred = centred_regions(parts(count))
    components = ridge._components(centred.mean(1))
    _, residuals = ridge._regressions(components, centred)
    region, total = 2, components.added.sum(0)
    context = total - components.added[region]
    others = np.eye(context.shape[1]) - components.loadings[region] @ components.loadings[region].T
    penalty = ridge.PENALTY * np.square(context).sum() / count * others
    for left_out in range(count):
        kept = np.arange(count) != left_out
        mean_x, mean_y = context[kept].mean(0), centred[region][:, kept].mean(1, keepdims=True)
        x, y = context[kept] - mean_x, centred[region][:, kept] - mean_y
        coefficients = np.linalg.solve(x.T @ x + penalty, x.T @ y)
        expected = centred[region][:, left_out] - mean_y[:, 0] - (context[left_out] - mean_x) @ coefficients
        np.testing.assert_allclose(residuals[region][:, left_out], expected, rtol=1e-6, atol=1e-9)


def test_with_all_components_the_regression_is_kernel_ridge_regression_on_the_other_regions(monkeypatch):
    count = 9
    monkeypatch.setattr(ridge, "MOST_COMPONENTS", count - 1)
    monkeypatch.setattr(ridge, "PARTS_PER_COMPONENT", 1)
    centred, fresh = (
        centred_regions(parts(count, channels=20)),
        ridge.regions_of(parts(3, channels=20, seed=5).astype(np.float64)),
    )
    components = ridge._components(centred.mean(1))
    coefficients, _ = ridge._regressions(components, centred)
    region = 1
    context = components.added.sum(0) - components.added[region]
    penalty = ridge.PENALTY * np.square(context).sum() / count
    means, fresh_means = (np.delete(cells.mean(1), region, 0) for cells in (centred, fresh))
    kernel = np.einsum("gnc,gmc->nm", means, means)
    alpha = np.linalg.solve(kernel + penalty * np.eye(count), centred[region])
    expected = np.einsum("gmc,gnc->mn", fresh_means, means) @ alpha
    added = np.einsum("grc,gmc->gmr", components.loadings, fresh.mean(1))
    found = (added.sum(0) - added[region]) @ coefficients[region]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_distances_are_those_of_the_covariance_that_is_shrunk_to_the_shared_one():
    cells = parts(10)
    tables = ridge.fit(cells)
    residuals = ridge._regressions(ridge._components(centred_regions(cells).mean(1)), centred_regions(cells))[1]
    white = residuals @ tables.whitening.astype(np.float64)
    weight, mean_square = ridge.POOLED / (ridge.POOLED + 10), np.square(white).mean()
    fine, coarse, _ = reference.masked_ridge(cells[3], tables)
    z = (ridge.regions_of(cells[3:4])[:, :, 0] - tables.mean) * tables.scale
    added = np.einsum("grc,gc->gr", tables.context, z.mean(1))
    left = z - np.einsum("gr,gkrc->gkc", added.sum(0) - added, tables.prediction)
    covariance = weight * mean_square * np.eye(6) + (1 - weight) * white[1, 2].T @ white[1, 2] / 10
    y = left[1, 2] @ tables.whitening
    assert reference.region_cells(fine[None])[1, 2, 0] == pytest.approx(
        np.sqrt(y @ np.linalg.solve(covariance, y)), rel=2e-3
    )
    means = white.mean(1)
    covariance = weight * np.square(means).mean() * np.eye(6) + (1 - weight) * means[1].T @ means[1] / 10
    y = left[1].mean(0) @ tables.whitening
    assert coarse[0, 1] == pytest.approx(np.sqrt(y @ np.linalg.solve(covariance, y)), rel=2e-3)


def test_the_shared_covariance_is_white():
    residuals = np.random.default_rng(3).normal(size=(4, 4, 30, 5)) * [1, 2, 0.5, 3, 1]
    white = (residuals @ ridge._whitening(residuals)).reshape(-1, 5)
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(5), atol=0.2)


@pytest.mark.parametrize("count", [4, 30])
def test_leading_directions_by_either_product_are_the_same(count):
    rows = np.random.default_rng(1).normal(size=(count, 9)).astype(np.float32)
    values, vectors = ridge._leading(rows, 3)
    expected, axes = np.linalg.eigh(rows.T @ rows / count)
    np.testing.assert_allclose(values, expected[-3:], rtol=1e-4)
    np.testing.assert_allclose(np.abs((vectors * axes[:, -3:].T).sum(1)), 1, rtol=1e-4)


def test_cross_fitted_parts_are_judged_by_ridges_that_never_saw_them():
    cells = parts(11)
    found = ridge.cross_fitted(cells)
    held_out = next(fold for fold in ridge.folds(11) if 4 in fold)
    alone = ridge.distances(ridge.fit(np.delete(cells, held_out, 0)), cells[4:5])
    for values, expected in zip(found, alone, strict=True):
        np.testing.assert_array_equal(values[4], expected[0])
    assert sorted(np.concatenate(list(ridge.folds(11)))) == list(range(11))


def test_a_place_taken_from_another_part_is_found_though_it_is_usual_by_itself():
    cells, strangers = parts(40), parts(20, seed=1)
    tables = ridge.fit(cells)
    usual = ridge.distances(tables, strangers)
    mixed = strangers.copy()
    mixed[:, :, :2, 2:] = np.roll(strangers, 1, 0)[:, :, :2, 2:]  # the region in the upper right
    found = ridge.distances(tables, mixed)
    assert np.median(found.coarse[:, 0, 1]) > 3 * np.median(usual.coarse[:, 0, 1])
    assert np.median(found.own[:, :2, 2:]) == pytest.approx(np.median(usual.own[:, :2, 2:]), rel=0.3)


def test_scores_of_taught_parts_are_as_large_as_those_of_parts_to_come():
    unseen = np.concatenate([ridge.cross_fitted(parts(24, seed=seed)).peaks[0] for seed in range(6)])
    fresh = np.concatenate(
        [ridge.distances(ridge.fit(parts(24, seed=seed)), parts(24, seed=100 + seed)).peaks[0] for seed in range(6)]
    )
    assert np.log(unseen).mean() == pytest.approx(np.log(fresh).mean(), abs=0.1)


def test_the_kernel_that_judges_agrees_with_the_reference():
    cells = parts(8, channels=11, side=6)
    tables = ridge.fit(cells)
    found = ridge.distances(tables, cells)
    for index, picture in enumerate(cells):
        for values, expected in zip(found, reference.masked_ridge(picture, tables), strict=True):
            np.testing.assert_allclose(values[index], expected, rtol=2e-3, atol=1e-3)


def test_stored_cells_come_back_to_half_a_step():
    cells = parts(5) * np.arange(1, 7)[:, None, None]
    cells[:, 2] = 7
    packed, ranges = pack(cells)
    steps = (ranges[1] - ranges[0])[:, None, None] / 255
    assert packed.dtype == np.uint8
    assert (np.abs(unpack(packed, ranges) - cells) <= 0.51 * steps + 1e-6).all()
