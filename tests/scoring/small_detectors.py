"""Every detector small enough for kernels that the host runs thread by thread: seeded networks and tables of the right shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from codebooks import normal, star
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from ridges import random_tables

from lad_edge.bundle import Contract, Graph
from lad_edge.scoring import Normalisation, Setup, ladmim, masked_ridge

SIZE = 32
FRAME = (37, 53, 3)
ROI = (3, 2, 47, 33)  # x, y, width, height
LATENT = 12

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Small:
    """A detector: its networks as role → (inputs, outputs), parameters, levels of its branches and tables."""

    detector: str
    networks: dict[str, tuple[dict[str, Shape], dict[str, Shape]]]
    parameters: dict[str, Any]
    levels: dict[str, tuple[float, float]]
    tables: dict[str, NDArray[Any]] = field(default_factory=dict)
    places: NDArray[np.float32] | None = None

    def graphs(self) -> dict[str, tuple[Graph, bytes]]:
        """As a runtime opens them."""
        return {role: network(role, *shapes) for role, shapes in self.networks.items()}

    def setup(self, runtime: Any) -> Setup:
        """For colour frames of FRAME."""
        contract = Contract(
            width=FRAME[1],
            height=FRAME[0],
            pixel_format="bgr8",
            roi=ROI,
            size=(SIZE, SIZE),
            channel_order="rgb",
            resize="bilinear-antialias",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )
        normalisation = Normalisation(self.levels, self.places)
        return Setup(contract, self.parameters, normalisation, runtime, FRAME, "bgr8", self.tables)


def network(role: str, inputs: dict[str, Shape], outputs: dict[str, Shape]) -> tuple[Graph, bytes]:
    """Sines of random sums of the one input, lifted above 0 where they are standard deviations; every value depends on every input."""
    ((given, shape),) = inputs.items()
    size = int(np.prod(shape))
    nodes = [
        helper.make_node("Reshape", [given, "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "mix"], ["latent"]),
    ]
    constants = {"flat": np.array([1, size]), "mix": normal(size, LATENT, seed=len(role)) * (2 / size**0.5)}
    constants["lift"] = np.array([1.5], np.float32)
    for seed, (name, wanted) in enumerate(outputs.items()):
        constants[f"{name}_spread"] = normal(LATENT, int(np.prod(wanted)), seed=seed)
        constants[f"{name}_shape"] = np.array(wanted)
        nodes += [
            helper.make_node("MatMul", ["latent", f"{name}_spread"], [f"{name}_sums"]),
            helper.make_node("Sin", [f"{name}_sums"], [f"{name}_sines"]),
            helper.make_node("Add", [f"{name}_sines", "lift"], [f"{name}_lifted"]),
            helper.make_node(
                "Reshape", [f"{name}_{'lifted' if 'sigmas' in name else 'sines'}", f"{name}_shape"], [name]
            ),
        ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (inputs | outputs).items()]
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, role, values[: len(inputs)], values[len(inputs) :], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return Graph(f"graph/{role}", "onnx", inputs, outputs), bytes(model.SerializeToString())


IMAGE: dict[str, Shape] = {"image": (1, 3, SIZE, SIZE)}
BOTH = {"structural": (-0.2, 0.7), "logical": (0.1, 0.5)}


def efficient_ad(*, sigmoid: bool = False, places: bool = False) -> Small:
    parameters = {"border": 2, "border_mode": "zero", "maps_side": 12, "sigmoid": sigmoid}
    levels = np.stack([normal(2, 12, 12), np.abs(normal(2, 12, 12, seed=1)) + 0.5]) if places else None
    detector = "dfsc" if sigmoid else "efficient_ad"
    return Small(detector, {"detector": (IMAGE, {"maps": (1, 2, 12, 12)})}, parameters, BOTH, places=levels)


def ulsad(*, local_only: bool = False) -> Small:
    names = {"described": (1, 6, 8, 8), "reconstructed": (1, 6 if local_only else 12, 8, 8)}
    outputs = names if local_only else names | {"predicted": (1, 6, 8, 8)}
    parameters = {"blur": 2.0, "channels": 6, "global_weight": 0.3, "local_only": local_only, "local_weight": 0.6}
    return Small("ulsad", {"detector": (IMAGE, outputs)}, parameters | {"maps_side": 8}, BOTH)


def fod(*, reference: str = "mean", modulation: str = "max") -> Small:
    sides, widths, channels = [6, 4], [8, 16], [5, 7]
    outputs: dict[str, Shape] = {}
    tables = {}
    for name, side, width, depth in zip(("fine", "coarse"), sides, widths, channels, strict=True):
        outputs |= {f"features_{name}": (1, depth, side, side), f"rebuilt_{name}": (1, depth, side, side)}
        outputs |= {f"queries_{name}": (2, side**2, width), f"sigmas_{name}": (2, side**2, 4)}
        if reference == "nearest":
            outputs[f"keys_{name}"] = (2, side**2, width)
        else:
            tables[f"fod/keys_{name}"] = normal(2, side**2, width, seed=side)
    parameters = {"blur": 1.5, "channels": channels, "heads": 2, "layers": 2, "modulation": modulation}
    parameters |= {"reference": reference, "sides": sides, "widths": widths}
    return Small("fod", {"detector": (IMAGE, outputs)}, parameters, {}, tables)


def masked(target: str = "histogram", **changes: Any) -> Small:
    """LADMIM."""
    side, levels, entries, width, inner, memory, masks = 6, 2, 9, 8, 4, 3, 5
    tokens, hidden = side**2, 11
    parameters = {"channels": 7, "code_width": inner, "entries": entries, "levels": levels, "mask_statistics": True}
    parameters |= {"masks": masks, "memory_width": memory, "psi": "linear", "side": side, "structural_score": "max"}
    parameters |= {"target": target, "width": width} | changes
    predicted = (masks, levels, entries) if target == "histogram" else (masks, hidden, levels, entries)
    features = {"features": (1, 7, side, side)}
    networks: dict[str, Any] = {
        "encode": (IMAGE, features | {"tokens": (1 + levels, tokens, width)}),
        "mim": (features, {"predicted": predicted}),
        "decode": ({"rows": (2 + levels, tokens, 2 * memory)}, {"rebuilt": (1, 7, side, side)}),
    }
    rng = np.random.default_rng(5)
    chosen = np.zeros((masks, tokens), np.uint8)
    for row in chosen:
        row[rng.choice(tokens, hidden, replace=False)] = 1
    ranges = np.zeros((2, masks, levels, entries), np.int32)  # no code is usual: there are findings
    tables: dict[str, NDArray[Any]] = {
        "ladmim/masks": chosen,
        "ladmim/ranges": ranges,
        "ladmim/places": np.zeros((levels, entries, 4), np.int32),
        "ladmim/first": normal(2, entries, 2 * memory, seed=6),
    }
    top, books = star(width, inner, entries, levels, 2 * memory)
    for name, book in zip(ladmim.book_names(levels), [top, *books], strict=True):
        tables |= ladmim.book_tables(name, book)
    branches = {name: (0.5 + 0.1 * i, 1.5 + 0.2 * i) for i, name in enumerate(ladmim.branches(masks))}
    return Small("ladmim", networks, parameters, branches, tables)


def ridge() -> Small:
    """Masked ridge."""
    channels, grid, components, directions = 5, 8, 3, 2
    stored = random_tables(grid, channels, components, directions)._asdict()
    stored |= {"contexts": normal(4, components), "own_limit": np.abs(normal(grid, grid)) + 1}
    tables = {
        masked_ridge.table_name(name): table.astype(np.float16 if name in masked_ridge.HALF_TABLES else np.float32)
        for name, table in stored.items()
    }
    parameters = {"channels": channels, "components": components, "directions": directions, "grid": grid}
    parameters |= {"parts": ["a.png", "b.png", "c.png", "d.png"]}
    networks = {"backbone": (IMAGE, {"cells": (1, channels, grid, grid)})}
    return Small("masked_ridge", networks, parameters, {"fine": (0.0, 3.0), "coarse": (0.0, 2.0)}, tables)


SMALL: dict[str, Small] = {
    "efficient_ad": efficient_ad(),
    "efficient_ad by place": efficient_ad(places=True),
    "dfsc": efficient_ad(sigmoid=True),
    "ulsad": ulsad(),
    "ulsad, one branch": ulsad(local_only=True),
    "fod": fod(),
    "fod, nearest reference": fod(reference="nearest", modulation="one"),
    "ladmim": masked(),
    "ladmim, mean": masked(structural_score="mean", mask_statistics=False),
    "masked_ridge": ridge(),
}
