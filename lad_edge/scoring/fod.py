"""FOD at the edge: frame → features, rebuilt features, queries → errors times divergences → one map (methods card §5.6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import distance_map, project_maps, symmetric_kl
from lad_edge.kernels.resampling import bilinear, blurred_bilinear
from lad_edge.scoring.base import FrameScorer, Setup
from lad_edge.values import Scores

GRAPH = "detector"
LEVELS = ("fine", "coarse")
PARAMETERS = ("blur", "channels", "heads", "layers", "modulation", "reference", "sides", "widths")


@dataclass(frozen=True)
class Level:
    """Buffers of one level, c channels on side × side tokens, d wide: what the graph gives, and what becomes of it.

    features, rebuilt: (c, side, side); queries: (layers, L, d); sigmas: (layers, L, 2·heads); keys: (layers, L, d), of the reference,
    which the graph gives if it chooses the reference by the picture (`chooses`).
    """

    name: str
    side: int
    chooses: bool
    features: NDArray[np.float32]
    rebuilt: NDArray[np.float32]
    queries: NDArray[np.float32]
    sigmas: NDArray[np.float32]
    keys: NDArray[np.float32]
    error: NDArray[np.float32]
    divergence: NDArray[np.float32]
    map: NDArray[np.float32]

    def outputs(self) -> dict[str, NDArray[np.float32]]:
        """The buffers that the graph writes, by its names."""
        keys = {f"keys_{self.name}": self.keys} if self.chooses else {}
        return keys | {
            f"features_{self.name}": self.features[None],
            f"rebuilt_{self.name}": self.rebuilt[None],
            f"queries_{self.name}": self.queries,
            f"sigmas_{self.name}": self.sigmas,
        }


class FodScorer(FrameScorer):
    """Preprocess, one graph, and per level a distance map, the symmetric divergence and their product; then the linear tail.

    parameters: per level `channels`, `sides` of the token grid and `widths` of the tokens; `heads`, `layers`, `modulation` (F-2), `blur`.
    tables: `fod/keys_fine` and `fod/keys_coarse`, the keys of the reference features, unless `reference` is "nearest": then the
    graph gives them. FOD has one branch: no logical score.
    """

    def __init__(self, setup: Setup) -> None:
        setup.expect(PARAMETERS)
        super().__init__(setup)
        parameters, size = setup.parameters, setup.contract.size
        self.heads, self.modulation = int(parameters["heads"]), str(parameters["modulation"])
        self.levels = [_level(index, setup) for index in range(len(LEVELS))]
        self.outputs = {name: buffer for level in self.levels for name, buffer in level.outputs().items()}
        self.enlarge = [tail(level.side, size[0], float(parameters["blur"])) for level in self.levels]
        self.fused = np.zeros(size, np.float32)

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The map of each level."""
        return {level.name: level.map for level in self.levels}

    def infer(self) -> None:
        """Both levels come from one graph."""
        self.run(GRAPH, image=self.input, **self.outputs)

    def judge(self) -> Scores:
        """Per level rec ⊙ w, then their mean, enlarged and blurred."""
        nonfinite = sum(self._judge_level(level) for level in self.levels)
        maps = [level.map for level in self.levels]
        found = project_maps(maps, self.enlarge, self.enlarge, weights=[0.5, 0.5], constant=0.0, out=self.fused)
        return Scores(found.score, found.score, -math.inf, nonfinite + found.nonfinite, self.fused)

    def _judge_level(self, level: Level) -> int:
        """Fill the map of a level; returns how many values were not finite."""
        distance_map(level.features, level.rebuilt, cosine=1.0, out=level.error)
        level.divergence[:] = 0
        nonfinite = 0
        for queries, keys, sigmas in zip(level.queries, level.keys, level.sigmas, strict=True):
            nonfinite += symmetric_kl(
                queries,
                keys,
                sigmas,
                heads=self.heads,
                side=level.side,
                out=level.divergence,
                weight=1 / len(level.queries),
            )
        odds = np.exp(level.divergence.min() - level.divergence)
        p = (odds / odds.sum()).reshape(level.map.shape)
        np.multiply(level.error, (p.max() if self.modulation == "max" else 1.0) - p, out=level.map)
        return nonfinite


def _level(index: int, setup: Setup) -> Level:
    parameters, name = setup.parameters, LEVELS[index]
    channels, side, width = (int(parameters[key][index]) for key in ("channels", "sides", "widths"))
    shape = (int(parameters["layers"]), side * side)
    chooses = parameters["reference"] == "nearest"
    keys = (
        np.zeros((*shape, width), np.float32) if chooses else setup.table(table_name(name), np.float32, (*shape, width))
    )
    return Level(
        name=name,
        side=side,
        chooses=chooses,
        features=np.zeros((channels, side, side), np.float32),
        rebuilt=np.zeros((channels, side, side), np.float32),
        queries=np.zeros((*shape, width), np.float32),
        sigmas=np.zeros((*shape, 2 * int(parameters["heads"])), np.float32),
        keys=keys,
        error=np.zeros((side, side), np.float32),
        divergence=np.zeros(side * side, np.float32),
        map=np.zeros((side, side), np.float32),
    )


def table_name(level: str) -> str:
    """Where the bundle keeps the keys of a level's reference features."""
    return f"fod/keys_{level}"


def tail(side: int, size: int, blur: float) -> NDArray[np.float32]:
    """R (size, side): enlarges with aligned corners and blurs with a symmetric border (§5.6)."""
    if blur > 0:
        return blurred_bilinear(side, size, blur, border="symmetric", corners=True)
    return bilinear(side, size, corners=True).astype(np.float32)
