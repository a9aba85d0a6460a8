"""Masked ridge at the edge: frame → cells → each region predicted from all others → distances → one map and its maximum.

Ours: LADMIM's masked modelling (methods card §6) learned in closed form on the box, by `lad_edge.teaching`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lad_edge.images import decode_image
from lad_edge.kernels import RidgeTables
from lad_edge.kernels.reference import region_cells
from lad_edge.kernels.resampling import bilinear
from lad_edge.scoring.base import FrameScorer, Setup, affine
from lad_edge.scoring.host_line import HostLine
from lad_edge.scoring.line import Array
from lad_edge.scoring.thumbnails import unpack
from lad_edge.values import GoodPatch, Scores

if TYPE_CHECKING:
    from lad_edge.scoring.line import Line

GRAPH, OUTPUT = "backbone", "cells"
LOOKED_AT = "masked_ridge/looked_at"  # 1 for cells of which any pixel is looked at: findings name no other
PARAMETERS = ("channels", "components", "directions", "grid", "parts")
USUAL = 0.1  # of the score: what the highest cell of a good part usually reaches
MOST_FINDINGS, LEAST_OF_WORST = 3, 0.8  # places that are nearly as bad as the worst one are worth a sentence
REACH = 2  # cells around such a place that are told and shown with it


class MaskedRidgeScorer(FrameScorer):
    """Preprocess, the frozen backbone, one kernel, and the larger of two distances enlarged to the network's input.

    parameters: `channels` of a cell, `grid` cells along each side, `components` of the context, `directions` of a covariance, and the
    names of the taught `parts`. tables: those of `RidgeTables`, `contexts` (parts, components) and `own_limit` (grid, grid), the
    largest distance by which a good part was unusual there by itself; `thumbnails`, if any; LOOKED_AT (grid, grid), if there is a mask.
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
        shape = (self.grid, self.grid)
        self.looked_at = (
            setup.table(LOOKED_AT, np.uint8, shape) if LOOKED_AT in setup.tables else np.ones(shape, np.uint8)
        )
        line, half = self.line, self.grid // 2
        self.cells = line.array(1, channels, self.grid, self.grid)
        line.graph(GRAPH, image=self.input, **{OUTPUT: self.cells})
        self.fine, self.coarse = line.array(self.grid, self.grid), line.array(half, half)
        self.own = line.shown(self.grid, self.grid)
        line.masked_ridge(tables, self.cells, fine=self.fine, coarse=self.coarse, own=self.own)
        self.tail = Tail(line, self.fine, self.coarse, setup.contract.size, setup.normalisation)

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The distances of cells and of regions."""
        return {"fine": self.line.read(self.fine), "coarse": self.line.read(self.coarse)}

    def judge(self) -> Scores:
        """The larger of a cell's distance and its region's; logical where the cell by itself looks like those of good parts."""
        found, worst, unusual = self.tail.found.value, self._worst(), self._unusual()
        peak = max(float(worst.max()), 1e-12)
        structural, logical = (
            found.score * float(np.where(cells, worst, 0).max()) / peak for cells in (unusual, ~unusual)
        )
        nonfinite = max(self.line.nonfinite, found.nonfinite)
        said, shown, drawn = self._findings, self._good_patches, self.line.read(self.tail.map)
        return Scores(found.score, structural, logical, nonfinite, drawn, explain=said, show_good=shown)

    def _worst(self) -> NDArray[np.float32]:
        return self.line.read(self.tail.worst)

    def _unusual(self) -> NDArray[np.bool_]:
        """Where a cell by itself looks like that of no good part."""
        return self.line.read(self.own) > self.own_limit

    def _findings(self) -> tuple[str, ...]:
        """The worst places in words, and the good parts that the rest of the picture resembles most."""
        return tuple(self._sentence(row, column) for row, column in self._worst_places())

    def _worst_places(self) -> Iterator[tuple[int, int]]:
        """Rows and columns, the worst first, REACH cells and more apart."""
        left = self._worst() * self.looked_at
        least = max(LEAST_OF_WORST * float(left.max()), USUAL)
        for _ in range(MOST_FINDINGS):
            if left.max() <= least:
                return
            row, column = (int(index) for index in np.unravel_index(left.argmax(), left.shape))
            yield row, column
            left[max(row - REACH, 0) : row + REACH + 1, max(column - REACH, 0) : column + REACH + 1] = 0

    def _sentence(self, row: int, column: int) -> str:
        ratio = float(self._worst()[row, column]) / USUAL
        where = f"row {row + 1}, column {column + 1} of {self.grid}: {ratio:.1f} times what good parts usually reach"
        if self._unusual()[row, column]:
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
        y_px, end_y_px = self._around(row, self.tail.map.shape[0])
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
        z = (region_cells(self.line.read(self.cells)[0]) - self.mean).mean(1) * self.scale
        added = np.einsum("grc,gc->gr", self.context, z)
        hidden = row // 2 * (self.grid // 2) + column // 2
        context = added.sum(0) - added[hidden]
        nearest: list[int] = np.square(self.contexts - context).sum(1).argsort().tolist()
        return nearest


class Tail:
    """Steps from the distances of cells and regions to the larger of both at each cell, enlarged to the network's input, and its maximum.

    fine: (grid, grid), coarse: (grid / 2, grid / 2). normalisation: branch → 0 and the usual peak of good parts, which becomes USUAL.
    """

    def __init__(
        self,
        line: Line,
        fine: Array,
        coarse: Array,
        size: tuple[int, int],
        normalisation: Mapping[str, tuple[float, float]],
    ) -> None:
        scale_fine, scale_coarse = (affine(normalisation[name])[0] for name in branches())
        self.worst, self.map = line.shown(*fine.shape), line.shown(*size)
        line.larger_of_regions(fine, coarse, scales=(scale_fine, scale_coarse), out=self.worst)
        rows, columns = (
            line.table(bilinear(cells, pixels, corners=False).astype(np.float32))
            for cells, pixels in zip(fine.shape, size, strict=True)
        )
        self.found = line.project_maps([self.worst], [rows], [columns], weights=[1.0], constant=0.0, out=self.map)


def scores_of(
    fine: NDArray[np.float32],
    coarse: NDArray[np.float32],
    size: tuple[int, int],
    normalisation: Mapping[str, tuple[float, float]],
) -> NDArray[np.float64]:
    """The scores of parts with these distances (n, grid, grid) and (n, grid / 2, grid / 2), as their frames would have them."""
    line = HostLine()
    cells, regions = line.array(*fine.shape[1:]), line.array(*coarse.shape[1:])
    tail, scores = Tail(line, cells, regions, size, normalisation), np.zeros(len(fine))
    for index in range(len(fine)):
        cells[:], regions[:] = fine[index], coarse[index]
        line.repeat(0)
        scores[index] = tail.found.value.score
    return scores


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
