"""EfficientAD and DFSC at the edge: frame → normalised tensor → two raw maps → one map and its maximum (methods card §2.6, §3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import fuse, project_maps
from lad_edge.kernels.resampling import bordered
from lad_edge.scoring.base import FrameScorer, Setup, affine
from lad_edge.values import Scores

GRAPH = "detector"
PARAMETERS = ("border", "border_mode", "maps_side", "sigmoid")


class EfficientAdScorer(FrameScorer):
    """Preprocess, one graph, one fused kernel; all buffers are made here.

    parameters: `maps_side` of the raw maps, `border` cells that they lack on each side, `border_mode` "zero" or "replicate" (E-3),
    `sigmoid` as DFSC has it (D-5). normalisation: without places the 0.9 and 0.995 quantiles of the raw validation maps, and the map is
    the mean of both branches; with places (ours) 0 and the usual peak of the deviations, and the map shows the larger branch.
    """

    def __init__(self, setup: Setup) -> None:
        setup.expect(PARAMETERS)
        super().__init__(setup)
        parameters, size = setup.parameters, setup.contract.size
        side = int(parameters["maps_side"])
        self.maps = np.zeros((1, 2, side, side), np.float32)
        self.deviations, self.larger = np.zeros_like(self.maps[0]), np.zeros_like(self.maps[0, 0])
        self.fused = np.zeros(size, np.float32)
        self.normalisation = setup.normalisation
        (scale_s, offset_s), (scale_l, offset_l) = (
            affine(setup.normalisation[branch]) for branch in ("structural", "logical")
        )
        self.scale, self.offset = (scale_s, scale_l), (offset_s, offset_l)
        self.sigmoid = bool(parameters["sigmoid"])
        self.border, self.border_mode = int(parameters["border"]), str(parameters["border_mode"])
        self.enlarge = bordered(side, self.border, size[0], replicate=self.border_mode == "replicate")

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The two maps of the engine."""
        return {"structural": self.maps[0, 0], "logical": self.maps[0, 1]}

    def infer(self) -> None:
        """Both maps come from one graph."""
        self.run(GRAPH, image=self.input, maps=self.maps)

    def judge(self) -> Scores:
        """Normalise, fuse, enlarge and take the maximum."""
        return self._quantiles() if self.normalisation.places is None else self._places()

    def _places(self) -> Scores:
        """Deviations relative to those that good parts reach; branches are scored by their highest cell."""
        above = self.normalisation.deviations(self.maps[0], self.deviations)
        above *= np.array(self.scale, np.float32)[:, None, None]
        structural, logical = above.max((1, 2))
        np.maximum(above[0], above[1], out=self.larger)
        found = project_maps([self.larger], [self.enlarge], [self.enlarge], weights=[1.0], constant=0.0, out=self.fused)
        return Scores(found.score, float(structural), float(logical), found.nonfinite, self.fused)

    def _quantiles(self) -> Scores:
        """As the papers do, in one pass."""
        found = fuse(
            self.maps[0, 0],
            self.maps[0, 1],
            scale=self.scale,
            offset=self.offset,
            sigmoid=self.sigmoid,
            border=self.border,
            border_mode=self.border_mode,
            size=self.fused.shape,
            out=self.fused,
        )
        structural, logical = (self._scaled(value) for value in (found.structural, found.logical))
        return Scores(found.score, structural, logical, found.nonfinite, self.fused)

    def _scaled(self, branch: float) -> float:
        """A branch's maximum on the scale of the score, so that both answer to one threshold."""
        return 0.5 + 0.5 * math.tanh(0.5 * branch) if self.sigmoid else branch  # the logistic function without overflow
