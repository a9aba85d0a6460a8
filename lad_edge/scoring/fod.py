"""FOD at the edge: frame → features, rebuilt features, queries → errors times divergences → one map (methods card §5.6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels.resampling import bilinear, blurred_bilinear
from lad_edge.scoring.base import FrameScorer, Setup
from lad_edge.scoring.line import Array
from lad_edge.values import Scores

if TYPE_CHECKING:
    from lad_edge.scoring.line import Line

GRAPH = "detector"
LEVELS = ("fine", "coarse")
PARAMETERS = ("blur", "channels", "heads", "layers", "modulation", "reference", "sides", "widths")


@dataclass(frozen=True)
class Level:
    """Buffers of one level, c channels on side × side tokens, d wide: what the graph gives, and the map that comes of it.

    features, rebuilt: (1, c, side, side); queries: (layers, L, d); sigmas: (layers, L, 2·heads); keys: (layers, L, d), of the reference,
    which the graph gives if it chooses the reference by the picture (`chooses`).
    """

    name: str
    side: int
    chooses: bool
    features: Array
    rebuilt: Array
    queries: Array
    sigmas: Array
    keys: Array
    map: Array

    def outputs(self) -> dict[str, Array]:
        """The buffers that the graph writes, by its names."""
        keys = {f"keys_{self.name}": self.keys} if self.chooses else {}
        return keys | {
            f"features_{self.name}": self.features,
            f"rebuilt_{self.name}": self.rebuilt,
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
        line, parameters, size = self.line, setup.parameters, setup.contract.size
        self.levels = [_level(index, setup, line) for index in range(len(LEVELS))]
        outputs = {name: buffer for level in self.levels for name, buffer in level.outputs().items()}
        line.graph(GRAPH, image=self.input, **outputs)
        for level in self.levels:
            self._modulate(level, int(parameters["heads"]), str(parameters["modulation"]))
        self.fused = line.shown(*size)
        enlarge = [line.table(tail(level.side, size[0], float(parameters["blur"]))) for level in self.levels]
        maps = [level.map for level in self.levels]
        self.found = line.project_maps(maps, enlarge, enlarge, weights=[0.5, 0.5], constant=0.0, out=self.fused)

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The map of each level."""
        return {level.name: self.line.read(level.map) for level in self.levels}

    def judge(self) -> Scores:
        """The mean of both levels, enlarged and blurred."""
        found, nonfinite = self.found.value, self.line.nonfinite
        return Scores(found.score, found.score, -math.inf, nonfinite + found.nonfinite, self.line.read(self.fused))

    def _modulate(self, level: Level, heads: int, modulation: str) -> None:
        """Fill the map of a level: reconstruction error ⊙ w (F-2)."""
        line, side = self.line, level.side
        error, divergence = line.array(side, side), line.array(side * side)
        line.distance_map(level.features, level.rebuilt, cosine=1.0, out=error)
        line.symmetric_kl(level.queries, level.keys, level.sigmas, heads=heads, side=side, out=divergence)
        line.modulate(error, divergence, from_largest=modulation == "max", out=level.map)


def _level(index: int, setup: Setup, line: Line) -> Level:
    parameters, name = setup.parameters, LEVELS[index]
    channels, side, width = (int(parameters[key][index]) for key in ("channels", "sides", "widths"))
    layers, tokens, heads = int(parameters["layers"]), side * side, int(parameters["heads"])
    shape = (layers, tokens, width)
    chooses = parameters["reference"] == "nearest"
    keys = line.array(*shape) if chooses else line.table(setup.table(table_name(name), np.float32, shape))
    return Level(
        name=name,
        side=side,
        chooses=chooses,
        features=line.array(1, channels, side, side),
        rebuilt=line.array(1, channels, side, side),
        queries=line.array(*shape),
        sigmas=line.array(layers, tokens, 2 * heads),
        keys=keys,
        map=line.array(side, side),
    )


def table_name(level: str) -> str:
    """Where the bundle keeps the keys of a level's reference features."""
    return f"fod/keys_{level}"


def tail(side: int, size: int, blur: float) -> NDArray[np.float32]:
    """R (size, side): enlarges with aligned corners and blurs with a symmetric border (§5.6)."""
    if blur > 0:
        return blurred_bilinear(side, size, blur, border="symmetric", corners=True)
    return bilinear(side, size, corners=True).astype(np.float32)
