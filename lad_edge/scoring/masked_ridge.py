"""Masked ridge at the edge: frame → cells → each region predicted from all others → distances → one map and its maximum.

Ours: LADMIM's masked modelling (methods card §6) learned in closed form on the box, by `lad_edge.teaching`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from lad_edge.images import decode_image
from lad_edge.kernels import MaskedRidge, Projected, RidgeTables, project_maps
from lad_edge.kernels.reference import region_cells
from lad_edge.kernels.resampling import bilinear
from lad_edge.scoring.base import FrameScorer, Setup, affine
from lad_edge.scoring.thumbnails import unpack
from lad_edge.values import GoodPatch, Scores

GRAPH, OUTPUT = "backbone", "cells"
PARAMETERS = ("channels", "components", "directions", "grid", "parts")
USUAL = 0.1  # of the score: what the highest cell of a good part usually reaches
MOST_FINDINGS, LEAST_OF_WORST = 3, 0.8  # places that are nearly as bad as the worst one are worth a sentence
REACH = 2  # cells around such a place that are told and shown with it


class MaskedRidgeScorer(FrameScorer):
    """Preprocess, the frozen backbone, one kernel, and the larger of two distances enlarged to the network's input.

    parameters: `channels` of a cell, `grid` cells along each side, `components` of the context, `directions` of a covariance, and the
    names of the taught `parts`. tables: those of `RidgeTables`, `contexts` (parts, components) and `own_limit` (grid, grid), the
    largest distance by which a good part was unusual there by itself; `thumbnails`, if any.
    normalisation: per branch 0 and the usual peak of good parts.
    """

    def __init__(self, setup: Setup) -> None:
        setup.expect(PARAMETERS)
        super().__init__(setup)
        p = setup.parameters
        channels, self.grid = int(p["channels"]), int(p["grid"])
        self.parts = [str(name) for name in p["parts"]]
        shapes = table_shapes(channels, self.grid, int(p["components"]), int(p["directions"]))
        tables = RidgeTables(*(_table(setup, name, shape) for name, shape in shapes.items()))
        self.mean, self.scale, self.context = (
            tables.mean,
            tables.scale,
            tables.context,
        )  # for findings; the kernel has its own
        self.contexts = _table(setup, "contexts", (len(self.parts), int(p["components"])))
        self.own_limit = _table(setup, "own_limit", (self.grid, self.grid))
        self.thumbnails = unpack(setup.tables, len(self.parts))
        self.ridge = MaskedRidge(tables)
        self.cells = np.zeros((1, channels, self.grid, self.grid), np.float32)
        self.fine, self.own = (np.zeros((self.grid, self.grid), np.float32) for _ in range(2))
        self.coarse = np.zeros((self.grid // 2, self.grid // 2), np.float32)
        self.tail = Tail(self.grid, setup.contract.size, setup.normalisation)

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The distances of cells and of regions."""
        return {"fine": self.fine, "coarse": self.coarse}

    def infer(self) -> None:
        """The backbone describes the cells."""
        self.run(GRAPH, image=self.input, **{OUTPUT: self.cells})

    def judge(self) -> Scores:
        """The larger of a cell's distance and its region's; logical where the cell by itself looks like those of good parts."""
        nonfinite = self.ridge(self.cells[0], self.fine, self.coarse, self.own)
        found = self.tail(self.fine, self.coarse)
        peak, unusual = max(float(self.tail.worst.max()), 1e-12), self.own > self.own_limit
        structural, logical = (
            found.score * float(np.where(cells, self.tail.worst, 0).max()) / peak for cells in (unusual, ~unusual)
        )
        nonfinite = max(nonfinite, found.nonfinite)
        said, shown = self._findings, self._good_patches
        return Scores(found.score, structural, logical, nonfinite, self.tail.map, explain=said, show_good=shown)

    def _findings(self) -> tuple[str, ...]:
        """The worst places in words, and the good parts that the rest of the picture resembles most."""
        return tuple(self._sentence(row, column) for row, column in self._worst_places())

    def _worst_places(self) -> Iterator[tuple[int, int]]:
        """Rows and columns, the worst first, REACH cells and more apart."""
        left = self.tail.worst.copy()
        least = max(LEAST_OF_WORST * float(left.max()), USUAL)
        for _ in range(MOST_FINDINGS):
            if left.max() <= least:
                return
            row, column = (int(index) for index in np.unravel_index(left.argmax(), left.shape))
            yield row, column
            left[max(row - REACH, 0) : row + REACH + 1, max(column - REACH, 0) : column + REACH + 1] = 0

    def _sentence(self, row: int, column: int) -> str:
        ratio = float(self.tail.worst[row, column]) / USUAL
        where = f"row {row + 1}, column {column + 1} of {self.grid}: {ratio:.1f} times what good parts usually reach"
        if self.own[row, column] > self.own_limit[row, column]:
            return f"structural at {where}; no good part looked like this there"
        alike = " and ".join(self.parts[index] for index in self._alike(row, column)[:2])
        return f"logical at {where}; usual by itself, but not beside the rest, which is most like {alike}"

    def _good_patches(self) -> tuple[GoodPatch, ...]:
        """Around each of the worst places: of the good parts with a thumbnail, the one whose rest is most like this one."""
        return tuple(self._good_patch(row, column) for row, column in self._worst_places()) if self.thumbnails else ()

    def _good_patch(self, row: int, column: int) -> GoodPatch:
        part = next(index for index in self._alike(row, column) if self.thumbnails[index])
        picture = np.asarray(decode_image(self.thumbnails[part], self.parts[part]).image, np.uint8)
        top, bottom = self._around(row, len(picture))
        left, right = self._around(column, picture.shape[1])
        y_px, end_y_px = self._around(row, len(self.tail.map))
        x_px, end_x_px = self._around(column, self.tail.map.shape[1])
        shown = picture[top:bottom, left:right]
        return GoodPatch(self.parts[part], x_px, y_px, end_x_px - x_px, end_y_px - y_px, shown)

    def _around(self, cell: int, length_px: int) -> tuple[int, int]:
        """First pixel and end of the cells up to REACH from one, on a side of length_px."""
        first, end = max(cell - REACH, 0), min(cell + REACH + 1, self.grid)
        return first * length_px // self.grid, -(-end * length_px // self.grid)

    def _alike(self, row: int, column: int) -> list[int]:
        """The good parts, that whose context is nearest to that of this region first.

        Not those with the largest weights in the regression: these overshoot and cancel, and what they show at the region is further
        from the prediction than what the nearest ones show (docs/results.md).
        """
        z = (region_cells(self.cells[0]) - self.mean).mean(1) * self.scale
        added = np.einsum("grc,gc->gr", self.context, z)
        hidden = row // 2 * (self.grid // 2) + column // 2
        context = added.sum(0) - added[hidden]
        nearest: list[int] = np.square(self.contexts - context).sum(1).argsort().tolist()
        return nearest


class Tail:
    """Distances of cells and regions → the larger of both at each cell, enlarged to the network's input, and its maximum.

    normalisation: branch → 0 and the usual peak of good parts, which becomes USUAL.
    """

    def __init__(self, grid: int, size: tuple[int, int], normalisation: Mapping[str, tuple[float, float]]) -> None:
        self.scales = [affine(normalisation[name])[0] for name in branches()]
        self.worst, self.of_regions = (np.zeros((grid, grid), np.float32) for _ in range(2))
        self.enlarge = [bilinear(grid, edge, corners=False).astype(np.float32) for edge in size]
        self.map = np.zeros(size, np.float32)

    def __call__(self, fine: NDArray[np.float32], coarse: NDArray[np.float32]) -> Projected:
        """fine: (grid, grid), coarse: (grid / 2, grid / 2). `worst` and `map` hold the result until the next call."""
        fine_scale, coarse_scale = self.scales
        np.multiply(fine, fine_scale, out=self.worst)
        half = len(coarse)
        self.of_regions.reshape(half, 2, half, 2)[:] = (coarse * coarse_scale)[:, None, :, None]
        np.maximum(self.worst, self.of_regions, out=self.worst)
        rows, columns = self.enlarge
        return project_maps([self.worst], [rows], [columns], weights=[1.0], constant=0.0, out=self.map)


def branches() -> tuple[str, ...]:
    """Distances of cells, distances of regions."""
    return ("fine", "coarse")


def table_name(name: str) -> str:
    """Where the bundle keeps a table of this detector."""
    return f"masked_ridge/{name}"


def table_shapes(channels: int, grid: int, components: int, directions: int) -> dict[str, tuple[int, ...]]:
    """Of `RidgeTables`, in its order."""
    regions = (grid // 2) ** 2
    return {
        "mean": (regions, 4, channels),
        "scale": (channels,),
        "context": (regions, components, channels),
        "prediction": (regions, 4, components, channels),
        "whitening": (channels, channels),
        "fine_directions": (regions, 4, directions, channels),
        "coarse_directions": (regions, directions, channels),
        "gain": (3,),
    }


HALF_TABLES = frozenset({"context", "prediction", "fine_directions", "coarse_directions"})  # float16 in the bundle


def _table(setup: Setup, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    stored = setup.table(table_name(name), np.float16 if name in HALF_TABLES else np.float32, shape)
    return np.ascontiguousarray(stored, np.float32)
