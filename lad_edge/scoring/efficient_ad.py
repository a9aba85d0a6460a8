"""EfficientAD and DFSC at the edge: frame → normalised tensor → two raw maps → one map and its maximum (methods card §2.6, §3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import fuse, fuse_places
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
        self.fused = np.zeros(size, np.float32)
        (scale_s, offset_s), (scale_l, offset_l) = (
            affine(setup.normalisation[branch]) for branch in ("structural", "logical")
        )
        self.scale, self.offset = (scale_s, scale_l), (offset_s, offset_l)
        self.sigmoid = bool(parameters["sigmoid"])
        self.tail: dict[str, Any] = {
            "border": int(parameters["border"]),
            "border_mode": str(parameters["border_mode"]),
            "size": size,
            "out": self.fused,
        }
        self.places = setup.normalisation.weighted_places(self.scale)

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The two maps of the engine."""
        return {"structural": self.maps[0, 0], "logical": self.maps[0, 1]}

    def infer(self) -> None:
        """Both maps come from one graph."""
        self.run(GRAPH, image=self.input, maps=self.maps)

    def judge(self) -> Scores:
        """Normalise, fuse, enlarge and take the maximum, in one pass."""
        structural, logical = self.maps[0]
        if self.places is not None:
            found = fuse_places(structural, logical, places=self.places, **self.tail)
            return Scores(found.score, found.structural, found.logical, found.nonfinite, self.fused)
        found = fuse(structural, logical, scale=self.scale, offset=self.offset, sigmoid=self.sigmoid, **self.tail)
        structural_score, logical_score = self._scaled(found.structural), self._scaled(found.logical)
        return Scores(found.score, structural_score, logical_score, found.nonfinite, self.fused)

    def _scaled(self, branch: float) -> float:
        """A branch's maximum on the scale of the score, so that both answer to one threshold."""
        return 0.5 + 0.5 * math.tanh(0.5 * branch) if self.sigmoid else branch  # the logistic function without overflow
