"""ULSAD at the edge: frame → features and their two reconstructions → two maps → one blurred map and its maximum (methods card §4.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import Projected
from lad_edge.kernels.resampling import bilinear, blurred_bilinear
from lad_edge.scoring.base import FrameScorer, Setup, affine
from lad_edge.scoring.line import Array, Said
from lad_edge.values import Scores

GRAPH = "detector"
PARAMETERS = ("blur", "channels", "global_weight", "local_only", "local_weight", "maps_side")


class UlsadScorer(FrameScorer):
    """Preprocess, one graph, two distance maps and the linear tail R·M·Rᵀ: enlarging and blurring in two small products.

    parameters: `channels` of the description, `maps_side`, `blur` in px of the network's input, the weights of the cosine distances, and
    `local_only` for an engine without the global branch. normalisation: the 0.9 and 0.995 quantiles of the blurred validation maps.
    """

    def __init__(self, setup: Setup) -> None:
        setup.expect(PARAMETERS)
        super().__init__(setup)
        line, parameters, size = self.line, setup.parameters, setup.contract.size
        channels, side = int(parameters["channels"]), int(parameters["maps_side"])
        self.branches = ("structural",) if parameters["local_only"] else ("structural", "logical")
        described = line.array(1, channels, side, side)
        reconstructed = line.array(1, channels * len(self.branches), side, side)
        outputs, pairs = {"described": described, "reconstructed": reconstructed}, [(reconstructed, described)]
        if not parameters["local_only"]:
            outputs["predicted"] = line.array(1, channels, side, side)
            pairs = [(reconstructed[0][:channels], described), (reconstructed[0][channels:], outputs["predicted"])]
        line.graph(GRAPH, image=self.input, **outputs)
        self.maps = [line.array(side, side) for _ in self.branches]
        for (a, b), name, out in zip(pairs, ("local_weight", "global_weight"), self.maps, strict=False):
            line.distance_map(a, b, cosine=float(parameters[name]), out=out)
        self.affine = [affine(setup.normalisation[branch]) for branch in self.branches]
        self.enlarge = line.table(tail(side, size[0], float(parameters["blur"])))
        self.fused, scratch = line.shown(*size), line.array(*size)
        self.alone = [self._project(slice(i, i + 1), scratch) for i in range(len(self.maps))]
        self.found = self._project(slice(None), self.fused)

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The small maps, before enlarging and blurring."""
        return dict(zip(self.branches, map(self.line.read, self.maps), strict=True))

    def judge(self) -> Scores:
        """Each branch alone, and their mean, enlarged and blurred."""
        found, alone = self.found.value, [branch.value.score for branch in self.alone]
        logical = alone[1] if len(alone) > 1 else -math.inf
        return Scores(found.score, alone[0], logical, found.nonfinite, self.line.read(self.fused))

    def _project(self, branches: slice, out: Array) -> Said[Projected]:
        """The mean of some branches, normalised."""
        maps, affines = self.maps[branches], self.affine[branches]
        enlarge = [self.enlarge] * len(maps)
        weights = [scale / len(maps) for scale, _ in affines]
        constant = sum(offset for _, offset in affines) / len(maps)
        return self.line.project_maps(maps, enlarge, enlarge, weights=weights, constant=constant, out=out)


def tail(side: int, size: int, blur: float) -> NDArray[np.float32]:
    """R (size, side): enlarges a map and blurs it, so that R·M·Rᵀ is the map in pixels of the network's input (decision U-7)."""
    if blur > 0:
        return blurred_bilinear(side, size, blur, border="reflect101")
    return bilinear(side, size, corners=False).astype(np.float32)
