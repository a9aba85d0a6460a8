"""The frozen networks that describe a picture cell by cell; they ship with lad-edge, and a taught engine holds a copy of its own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from lad_edge.bundle import Cost, Graph

IMAGE, CELLS = "image", "cells"  # input and output of the graph
GRAPH = "backbone"  # its role in the bundle
SIDE, GRID = 256, 16  # px of the network's input; cells along one side of the picture


@dataclass(frozen=True)
class Backbone:
    """file: in lad_edge/assets; channels: of each cell; mean, std: of RGB in [0, 1], what the network was trained with."""

    file: str
    channels: int
    cost: Cost
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def graph(self) -> Graph:
        """How a bundle describes it."""
        return Graph(
            f"graph/{GRAPH}",
            "onnx",
            {IMAGE: (1, 3, SIDE, SIDE)},
            {CELLS: (1, self.channels, GRID, GRID)},
            cost=self.cost,
        )

    def onnx(self) -> bytes:
        """Its bytes."""
        return (files("lad_edge.assets") / self.file).read_bytes()


BACKBONES = {
    "efficientnet-lite0": Backbone(
        file="efficientnet_lite0.onnx",
        channels=152,
        cost=Cost(parameters=692_690, macs=317_739_008),
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
    )
}
