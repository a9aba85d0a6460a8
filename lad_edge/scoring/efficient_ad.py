"""EfficientAD and DFSC at the edge: frame → normalised tensor → two raw maps → one map and its maximum (methods card §2.6, §3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lad_edge.scoring.base import FrameScorer, Setup, affine
from lad_edge.values import Scores

GRAPH = "detector"
BRANCHES = ("structural", "logical")
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
        line, parameters, size = self.line, setup.parameters, setup.contract.size
        side = int(parameters["maps_side"])
        self.maps = line.array(1, 2, side, side)
        self.fused = line.shown(*size)
        line.graph(GRAPH, image=self.input, maps=self.maps)
        scale, offset = zip(*(affine(setup.normalisation[branch]) for branch in BRANCHES), strict=True)
        self.places = setup.normalisation.weighted_places(scale)
        self.sigmoid = bool(parameters["sigmoid"]) and self.places is None
        tail: dict[str, Any] = {
            "border": int(parameters["border"]),
            "border_mode": str(parameters["border_mode"]),
            "size": size,
            "out": self.fused,
        }
        structural, logical = self.maps[0][0], self.maps[0][1]
        if self.places is None:
            tail |= {"scale": scale, "offset": offset, "sigmoid": self.sigmoid}
            self.found = line.fuse(structural, logical, **tail)
        else:
            self.found = line.fuse_places(structural, logical, places=line.table(self.places), **tail)

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The two maps of the engine."""
        return dict(zip(BRANCHES, self.line.read(self.maps)[0], strict=True))

    def judge(self) -> Scores:
        """Normalised, fused, enlarged maps and their maximum come from one kernel."""
        found = self.found.value
        structural, logical = self._scaled(found.structural), self._scaled(found.logical)
        return Scores(found.score, structural, logical, found.nonfinite, self.line.read(self.fused))

    def _scaled(self, branch: float) -> float:
        """A branch's maximum on the scale of the score, so that both answer to one threshold."""
        return 0.5 + 0.5 * math.tanh(0.5 * branch) if self.sigmoid else branch  # the logistic function without overflow
