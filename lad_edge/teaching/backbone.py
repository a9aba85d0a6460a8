"""The frozen networks that describe a picture cell by cell: one ships with lad-edge, a taught engine holds a copy of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lad_edge.bundle import Cost, Graph
from lad_edge.bundle.onnx_guard import OnnxRefusedError, inspect_onnx, reshaped
from lad_edge.errors import UsageError
from lad_edge.images import read_bytes

if TYPE_CHECKING:
    from lad_edge.bundle import Bundle

IMAGE, CELLS = "image", "cells"  # input and output of the graph
GRAPH = "backbone"  # its role in the bundle
ABOUT = "lad_edge"  # key of what the ONNX says of itself, as JSON: name, mean, std, parameters, macs
CELL_PX, SIDE = 16, 256  # of a cell; of the network's input by default
SHIPPED = {"efficientnet-lite0": "efficientnet_lite0.onnx"}  # in lad_edge/assets
_STEP_PX, _SMALLEST_PX, _LARGEST_PX = 2 * CELL_PX, 128, 1024  # regions are two by two cells


@dataclass(frozen=True)
class Backbone:
    """mean, std: of RGB in [0, 1], what the network was trained with; graph: how a bundle describes `onnx`."""

    name: str
    onnx: bytes | memoryview
    graph: Graph
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def side(self) -> int:
        """Pixels of the network's input along each side."""
        return self.graph.inputs[IMAGE][2]

    @property
    def grid(self) -> int:
        """Cells of the picture along each side."""
        return self.graph.outputs[CELLS][2]

    @property
    def channels(self) -> int:
        """Numbers that describe a cell."""
        return self.graph.outputs[CELLS][1]


def open_backbone(name: str | None = None, side: int | None = None) -> Backbone:
    """One that ships, or an ONNX file of `python -m lad_edge.export.teaching_backbone`, for pictures of side x side px.

    None: efficientnet-lite0, SIDE. Raises UsageError for an unknown name, another file and a side that does not fit; DataError for a
    file that cannot be read.
    """
    name, side = name or next(iter(SHIPPED)), side or SIDE
    if side % _STEP_PX or not _SMALLEST_PX <= side <= _LARGEST_PX:
        raise UsageError(f"--side {side}: expected {_SMALLEST_PX} to {_LARGEST_PX} px in steps of {_STEP_PX}")
    if name not in SHIPPED and not name.endswith(".onnx"):
        raise UsageError(f"--backbone {name}: expected one of {', '.join(SHIPPED)}, or a file that ends in .onnx")
    data = (files("lad_edge.assets") / SHIPPED[name]).read_bytes() if name in SHIPPED else read_bytes(Path(name))
    try:
        return _described(data, side)
    except (OnnxRefusedError, ValueError, TypeError, KeyError) as exc:
        raise UsageError(
            f"--backbone {name}: {exc}; expected a file made by 'python -m lad_edge.export.teaching_backbone'"
        ) from exc


def backbone_of(taught: Bundle) -> Backbone:
    """The copy that a taught engine holds."""
    manifest = taught.manifest
    contract, name = manifest.contract, str(manifest.provenance["backbone"])
    return Backbone(name, taught.graph_bytes(GRAPH), manifest.graphs[GRAPH], contract.mean, contract.std)


def _described(data: bytes, side: int) -> Backbone:
    """Raises OnnxRefusedError, ValueError, TypeError or KeyError for what `teaching_backbone` has not made."""
    found = inspect_onnx(data)
    if ABOUT not in found.metadata:
        raise ValueError("it does not say how pictures are normalised")
    about: dict[str, Any] = json.loads(found.metadata[ABOUT])
    made_for, channels, grid = found.inputs[IMAGE][2], found.outputs[CELLS][1], side // CELL_PX
    inputs, outputs = {IMAGE: (1, 3, side, side)}, {CELLS: (1, channels, grid, grid)}
    # All its multiplications are those of convolutions, whose pictures have the input's sides over a power of two.
    cost = Cost(parameters=int(about["parameters"]), macs=int(about["macs"]) * side**2 // made_for**2)
    return Backbone(
        name=str(about["name"]),
        onnx=reshaped(data, inputs | outputs),
        graph=Graph(f"graph/{GRAPH}", "onnx", inputs, outputs, cost=cost),
        mean=_of_rgb(about["mean"]),
        std=_of_rgb(about["std"]),
    )


def _of_rgb(values: list[Any]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue
