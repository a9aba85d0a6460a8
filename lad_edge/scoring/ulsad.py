"""ULSAD at the edge: frame → features and their two reconstructions → two maps → one blurred map and its maximum (methods card §4.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import Projected, distance_map, project_maps
from lad_edge.kernels.resampling import bilinear, blurred_bilinear
from lad_edge.scoring.base import FrameScorer, Setup, affine
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
        parameters, size = setup.parameters, setup.contract.size
        channels, side = int(parameters["channels"]), int(parameters["maps_side"])
        self.branches = ("structural",) if parameters["local_only"] else ("structural", "logical")
        self.weights = [float(parameters[name]) for name in ("local_weight", "global_weight")][: len(self.branches)]
        self.outputs = {
            "described": np.zeros((1, channels, side, side), np.float32),
            "reconstructed": np.zeros((1, channels * len(self.branches), side, side), np.float32),
        }
        described, reconstructed = self.outputs["described"][0], self.outputs["reconstructed"][0]
        self.pairs = [(reconstructed[:channels], described)]
        if not parameters["local_only"]:
            self.outputs["predicted"] = np.zeros_like(self.outputs["described"])
            self.pairs.append((reconstructed[channels:], self.outputs["predicted"][0]))
        self.maps = np.zeros((len(self.branches), side, side), np.float32)
        self.affine = [affine(setup.normalisation[branch]) for branch in self.branches]
        self.enlarge = tail(side, size[0], float(parameters["blur"]))
        self.fused, self.scratch = np.zeros(size, np.float32), np.zeros(size, np.float32)

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The small maps, before enlarging and blurring."""
        return dict(zip(self.branches, self.maps, strict=True))

    def infer(self) -> None:
        """Features and reconstructions come from one graph."""
        self.run(GRAPH, image=self.input, **self.outputs)

    def judge(self) -> Scores:
        """Distances, then each branch alone and their mean, enlarged and blurred."""
        for (a, b), weight, out in zip(self.pairs, self.weights, self.maps, strict=True):
            distance_map(a, b, cosine=weight, out=out)
        alone = [self._project(slice(i, i + 1), self.scratch) for i in range(len(self.maps))]
        found = self._project(slice(None), self.fused)
        logical = alone[1].score if len(alone) > 1 else -math.inf
        return Scores(found.score, alone[0].score, logical, found.nonfinite, self.fused)

    def _project(self, branches: slice, out: NDArray[np.float32]) -> Projected:
        """The mean of some branches, normalised."""
        maps, affines = list(self.maps[branches]), self.affine[branches]
        enlarge = [self.enlarge] * len(maps)
        weights = [scale / len(maps) for scale, _ in affines]
        constant = sum(offset for _, offset in affines) / len(maps)
        return project_maps(maps, enlarge, enlarge, weights=weights, constant=constant, out=out)


def tail(side: int, size: int, blur: float) -> NDArray[np.float32]:
    """R (size, side): enlarges a map and blurs it, so that R·M·Rᵀ is the map in pixels of the network's input (decision U-7)."""
    if blur > 0:
        return blurred_bilinear(side, size, blur, border="reflect101")
    return bilinear(side, size, corners=False).astype(np.float32)
