"""Cells against what the rest of the picture lets expect: the masked ridge's kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.cases.case import Case, Contestant, Floats, on_each_isa
from lad_edge.kernels import MaskedRidge, RidgeTables, reference

SIDE, CHANNELS = 16, 152


def taught_from_few() -> Case:
    """As 25 good parts leave it."""
    return masked_ridge_case(8, 25)


def taught_from_many() -> Case:
    """As 150 good parts or more leave it."""
    return masked_ridge_case(48, 48)


def masked_ridge_case(r: int, q: int) -> Case:
    """A context of r numbers, q directions for each cell and region."""
    tables, cells = random_tables(r, q), np.random.default_rng(1).normal(size=(CHANNELS, SIDE, SIDE)).astype(np.float32)
    ridge, wanted = MaskedRidge(tables), reference.masked_ridge(cells, tables)
    white = tables._replace(prediction=np.ascontiguousarray(tables.prediction @ tables.whitening))
    fine, coarse, own = (np.empty_like(distances, np.float32) for distances in wanted)

    def ours() -> Sequence[Floats]:
        ridge(cells, fine, coarse, own)
        return fine, coarse, own

    def agree(got: Sequence[Floats]) -> None:
        for distances, expected in zip(got, wanted, strict=True):
            np.testing.assert_allclose(distances, expected, rtol=1e-3)

    contestants = on_each_isa(ours, agree) | {
        "numpy, white predictions": Contestant(lambda: by_numpy(cells, white), agree)
    }
    title = f"masked ridge: {SIDE}x{SIDE} cells x {CHANNELS}, context of {r}, {q} directions"
    return Case(title, contestants, bytes_moved=stored_bytes(tables) + cells.nbytes + 4 * sum(d.size for d in wanted))


def random_tables(r: int, q: int) -> RidgeTables:
    """Every product of order 1; directions take away up to half of a length."""
    rng, regions = np.random.default_rng(0), SIDE * SIDE // 4

    def normal(*shape: int, size: float = 1.0) -> Floats:
        return (size * rng.normal(size=shape)).astype(np.float32)

    short = 0.5 / (q**0.5 + CHANNELS**0.5)
    return RidgeTables(
        mean=normal(regions, 4, CHANNELS),
        scale=np.ones(CHANNELS, np.float32),
        context=normal(regions, r, CHANNELS, size=(CHANNELS * regions) ** -0.5),
        prediction=normal(regions, 4, r, CHANNELS, size=r**-0.5),
        whitening=normal(CHANNELS, CHANNELS, size=CHANNELS**-0.5),
        fine_directions=normal(regions, 4, q, CHANNELS, size=short),
        coarse_directions=normal(regions, q, CHANNELS, size=short),
        gain=np.ones(3, np.float32),
    )


def stored_bytes(tables: RidgeTables) -> int:
    """Of the tables as the kernel keeps them: the large ones in 16 bits."""
    halved = (tables.context, tables.prediction, tables.fine_directions, tables.coarse_directions)
    return sum(table.nbytes for table in tables) - sum(table.nbytes for table in halved) // 2


def by_numpy(cells: Floats, tables: RidgeTables) -> tuple[Floats, Floats, Floats]:
    """The best numpy form we know, in float32 with BLAS; predictions in white coordinates, as ours. tables: with these."""
    split = cells.reshape(CHANNELS, SIDE // 2, 2, SIDE // 2, 2).transpose(1, 3, 2, 4, 0).reshape(-1, 4, CHANNELS)
    z = (split - tables.mean) * tables.scale
    added = np.matmul(tables.context, z.mean(1)[:, :, None])[..., 0]
    others = (added.sum(0) - added)[:, None, None, :]
    white = (z.reshape(-1, CHANNELS) @ tables.whitening).reshape(z.shape)
    residual = white - np.matmul(others, tables.prediction)[:, :, 0]
    fine, own = squared(np.stack([residual, white], -1), tables.fine_directions)
    (coarse,) = squared(residual.mean(1)[..., None], tables.coarse_directions)
    maps = (reference.cell_map(fine), coarse.reshape(SIDE // 2, -1), reference.cell_map(own))
    fine, coarse, own = (np.sqrt(gain * np.maximum(m, 0)) for gain, m in zip(tables.gain, maps, strict=True))
    return fine, coarse, own


def squared(white: Floats, directions: Floats) -> Floats:
    """(k, ...) of white coordinates (..., C, k) less their parts along directions (..., q, C)."""
    along = np.matmul(directions, white)
    return np.moveaxis(np.square(white).sum(-2) - np.square(along).sum(-2), -1, 0)
