"""Cells of a few good parts go in, the tables of the masked ridge come out: linear algebra, no gradient steps.

LADMIM's idea (methods card §6), learned in closed form: each region of the picture is hidden in turn and predicted from all others by
ridge regression on r principal components of the rest; what is left over is judged by a covariance of its own. n parts, C channels of
each cell. Decided by measurement (docs/results.md):

* Each cell's covariance is shrunk to the one that all cells share, by w = 500 / (500 + n): a cell sees n residuals, all cells together
  256 times as many. Shrunk to a multiple of the identity, as Ledoit and Wolf do, it separates worse the fewer parts there are.
* The context has n / 3 components, 48 at most. With as many as there are parts, the regression passes through every one of them.
* Scores of the taught parts come from ridges that never saw them (`cross_fitted`). Leave-one-out residuals alone are too small for it:
  their weighted sum is zero, so those of the others span what was left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lad_edge.kernels import MaskedRidge, RidgeTables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Cells = NDArray[np.float32]  # (n, C, side, side)
    Floats = NDArray[np.floating]

PENALTY = 0.02  # of the ridge, in units of the mean square of the context
POOLED = 500  # residuals of a cell that weigh as much as what all cells share
MOST_COMPONENTS, PARTS_PER_COMPONENT = 48, 3
MOST_DIRECTIONS = 48  # of a covariance that are told from the shared one
FLOOR = 0.02  # of the mean variance, added to the shared covariance: channels that never vary do not explode
FOLDS, MANY_PARTS, FOLDS_OF_MANY = 8, 100, 5  # a fifth less of many parts changes nothing


class Distances(NamedTuple):
    """What `kernels.MaskedRidge` says of n pictures: fine, own (n, side, side) and coarse (n, side / 2, side / 2)."""

    fine: NDArray[np.float32]
    coarse: NDArray[np.float32]
    own: NDArray[np.float32]

    @property
    def peaks(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n,) each: the largest fine and the largest coarse distance of each picture."""
        return self.fine.max((1, 2)), self.coarse.max((1, 2))


class Components(NamedTuple):
    """Principal components of the pictures of n parts, r of them; the context of a picture is the sum of what its regions add.

    added: (regions, n, r), what each region of each part adds; loadings: (regions, r, C).
    """

    added: NDArray[np.float64]
    loadings: NDArray[np.float64]


def fit(cells: Cells) -> RidgeTables:
    """The tables for cells of 2 or more good parts, rounded to half precision as a bundle stores them."""
    return fit_regions(regions_of(cells))


def fit_regions(regions: NDArray[np.float32]) -> RidgeTables:
    """The same from (regions, 4, n, C), see `regions_of`."""
    scale = 1 / (regions.std((0, 1, 2)) + 1e-6)
    mean = regions.mean(2, keepdims=True)
    centred = (regions - mean) * scale
    components = _components(centred.mean(1))
    prediction, residuals = _regressions(components, centred)
    weight = POOLED / (POOLED + regions.shape[2])
    whitening = _whitening(residuals)
    fine, fine_gain = _directions(residuals @ whitening, weight)
    coarse, coarse_gain = _directions(residuals.mean(1) @ whitening, weight)
    return RidgeTables(
        mean=_single(mean[:, :, 0]),
        scale=_single(scale),
        context=_half(components.loadings),
        prediction=_half(prediction),
        whitening=_single(whitening),
        fine_directions=_half(fine),
        coarse_directions=_half(coarse),
        gain=_single(np.array([fine_gain, coarse_gain, fine_gain])),
    )


def _single(table: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(table, np.float32)


def _half(table: NDArray[np.floating]) -> NDArray[np.float32]:
    """As the bundle stores it: through float16 and back."""
    return _single(table.astype(np.float16))


def distances(tables: RidgeTables, cells: Cells) -> Distances:
    """Of n pictures, by the kernel that judges frames."""
    count, _, side, _ = cells.shape
    found = _empty(count, side)
    ridge = MaskedRidge(tables)
    for index, picture in enumerate(cells):
        ridge(np.ascontiguousarray(picture), *(values[index] for values in found))
    return found


def cross_fitted(cells: Cells) -> Distances:
    """Of each part, by a ridge of the parts in the other folds: what the part would be told if it came tomorrow."""
    parts, _, side, _ = cells.shape
    found, regions = _empty(parts, side), regions_of(cells)
    for held_out in folds(parts):
        tables = fit_regions(np.delete(regions, held_out, 2))
        for values, of_fold in zip(found, distances(tables, cells[held_out]), strict=True):
            values[held_out] = of_fold
    return found


def _empty(count: int, side: int) -> Distances:
    return Distances(*(np.zeros((count, edge, edge), np.float32) for edge in (side, side // 2, side)))


def contexts(tables: RidgeTables, cells: Cells) -> NDArray[np.float64]:
    """(n, r): the context of each whole picture, no region hidden."""
    z = (regions_of(cells) - tables.mean[:, :, None]).mean(1) * tables.scale
    return np.asarray(np.einsum("grc,gnc->nr", tables.context, z, optimize=True))


def folds(parts: int) -> Iterator[NDArray[np.intp]]:
    """Every part in one of FOLDS sets, neighbours in different ones; FOLDS_OF_MANY from MANY_PARTS on."""
    count = min(FOLDS, parts) if parts < MANY_PARTS else FOLDS_OF_MANY
    for first in range(count):
        yield np.arange(first, parts, count)


def regions_of(cells: Cells) -> NDArray[np.float32]:
    """(regions, 4, n, C) of (n, C, side, side), in the order of `kernels.RidgeTables`."""
    parts, channels, side, _ = cells.shape
    split = cells.reshape(parts, channels, side // 2, 2, side // 2, 2)
    return np.ascontiguousarray(split.transpose(2, 4, 3, 5, 0, 1).reshape(-1, 4, parts, channels))


def _components(regions: NDArray[np.floating]) -> Components:
    """Of (regions, n, C), centred. K = Σ A Aᵀ = U S² Uᵀ; the loadings of a region are Aᵀ U / S."""
    parts, regions = regions.shape[1], regions.astype(np.float64)
    kernels = regions @ regions.transpose(0, 2, 1)
    squares, vectors = np.linalg.eigh(kernels.sum(0))
    count = max(1, min(MOST_COMPONENTS, parts // PARTS_PER_COMPONENT))
    basis = vectors[:, -count:] / np.sqrt(np.maximum(squares[-count:], 1e-12))
    return Components(kernels @ basis, (regions.transpose(0, 2, 1) @ basis).transpose(0, 2, 1))


def _regressions(components: Components, centred: Floats) -> tuple[Floats, Floats]:
    """(regions, 4, r, C) of coefficients and (regions, 4, n, C) of leave-one-out residuals.

    Ridge regression of each region's cells on the context T of all other regions, penalty λ βᵀ N β with N = Uᵀ T / S: for as many
    components as parts it is kernel ridge regression with the kernel of the other regions. The part left out changes its residual by
    1 / (1 - 1/n - H_ii), with 1/n for the mean.
    """
    added, loadings = components
    parts = added.shape[1]
    total = added.sum(0)
    coefficients = np.empty((len(added), 4, added.shape[2], centred.shape[3]), centred.dtype)
    residuals = np.empty_like(centred)
    for region, own in enumerate(added):
        context = total - own
        others = np.eye(context.shape[1]) - loadings[region] @ loadings[region].T
        penalty = PENALTY * np.square(context).sum() / parts
        solved = np.linalg.solve(context.T @ context + penalty * others, context.T)
        leverage = np.einsum("nr,rn->n", context, solved)
        left_out = np.maximum(1 - 1 / parts - leverage, 1e-6)
        coefficients[region] = solved.astype(centred.dtype) @ centred[region]
        residuals[region] = centred[region] - context.astype(centred.dtype) @ coefficients[region]
        residuals[region] /= left_out[:, None].astype(centred.dtype)
    return coefficients, residuals


def _whitening(residuals: Floats) -> Floats:
    """(C, C): rows times this have the identity as the covariance that all cells share."""
    rows = residuals.reshape(-1, residuals.shape[-1])
    shared = (rows.T @ rows).astype(np.float64) / len(rows)
    shared += FLOOR * max(float(np.trace(shared)) / len(shared), 1e-12) * np.eye(len(shared))
    variances, axes = np.linalg.eigh(shared)
    return np.asarray(axes / np.sqrt(variances), residuals.dtype)


def _directions(white: Floats, weight: float) -> tuple[NDArray[np.float32], float]:
    """(..., q, C) and the gain, from white residuals (..., n, C) of each cell.

    The covariance of a cell is w s² I + (1 - w) Σ, with Σ of its own residuals and s² their mean square over all cells. With Σ's
    eigenvectors v and values e, xᵀ (…)⁻¹ x = (|x|² - Σ γ (vᵀ x)²) / (w s²), γ = (1 - w) e / ((1 - w) e + w s²).
    """
    *places, parts, channels = white.shape
    flat = white.reshape(-1, parts, channels).astype(np.float32, copy=False)
    floor = weight * float(np.square(flat).mean())
    count = min(MOST_DIRECTIONS, parts, channels)
    found = np.empty((len(flat), count, channels), np.float32)
    for place, rows in enumerate(flat):
        values, vectors = _leading(rows, count)
        own = (1 - weight) * np.maximum(values, 0)
        found[place] = vectors * np.sqrt(own / np.maximum(own + floor, 1e-30))[:, None]
    return found.reshape(*places, count, channels), 1 / max(floor, 1e-30)


def _leading(rows: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The largest eigenvalues (count,) of rowsᵀ rows / n, and their eigenvectors (count, C), by way of the smaller product."""
    parts, channels = rows.shape
    if parts >= channels:
        values, vectors = np.linalg.eigh(rows.T @ rows / parts)
        return values[-count:], vectors[:, -count:].T
    values, vectors = np.linalg.eigh(rows @ rows.T / parts)
    values, vectors = values[-count:], vectors[:, -count:].T @ rows
    lengths: Sequence[float] = np.linalg.norm(vectors, axis=1)
    return values, vectors / np.maximum(lengths, 1e-12)[:, None]
