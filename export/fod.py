"""The graph of FOD: image → features, rebuilt features, and the queries and widths that the divergence is computed from.

Foldings, each exact (methods card §5.7): where the reference does not depend on the picture, its embedding, keys and values are
constants, otherwise ("nearest") the graph chooses it; the targets and widths of the intra branch are not needed; batch norms go into
the convolutions before them.

It runs in f32 in every engine: rounded to bfloat16, single cells of the fine map moved by more than what good parts reach, and a
detector trained on juice_bottle fell from image AUROC 0.871 to 0.851.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lad_edge.export.exporter import Exported, Raw, trace
from lad_edge.export.folding import fold_batch_norms
from torch import Tensor, nn

from lad_edge.detectors.fod import (
    LEVELS,
    Fod,
    FodConfig,
    I2Layer,
    LevelNetwork,
    modulated,
    split_heads,
    to_tokens,
    width_of,
)
from lad_edge.detectors.references import nearest_reference
from lad_edge.scoring.base import Normalisation
from lad_edge.scoring.fod import GRAPH, table_name, tail


class FoldedLayer(nn.Module):
    """A layer; with the keys and values of the reference as constants, if that is `known`."""

    keys: Tensor
    values: Tensor

    def __init__(self, layer: I2Layer, known: Tensor | None) -> None:
        super().__init__()
        self.layer = layer
        if known is not None:
            self.register_buffer("keys", layer.inter["key"](known))
            self.register_buffer("values", layer.inter["value"](known))

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `I2Layer`, without the targets: tokens → tokens, queries (L, d), σ (L, 2·heads) and keys of the reference (L, d)."""
        layer, inter = self.layer, self.layer.inter
        keys, values = (self.keys, self.values) if known is None else (inter["key"](known), inter["value"](known))
        queries = inter["query"](x)
        q, k, v = (layer.intra[name](x) for name in ("query", "key", "value"))
        difference = self._attend(q, k, v) - self._attend(queries, keys, values)
        y = layer.norm(difference + x if layer.residual else difference)
        return layer.norm_out(y + layer.feed_forward(y)), queries, width_of(layer.inter_sigma(x)), keys

    def _attend(self, *qkv: Tensor) -> Tensor:
        q, k, v = (split_heads(x, self.layer.heads) for x in qkv)
        softmax = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        return (softmax @ v).transpose(1, 2).flatten(2)


class FoldedLevel(nn.Module):
    """Features (1, C, h, w) of one level → features, rebuilt features (1, C, h, w), queries (layers, L, d), σ (layers, L, 2·heads).

    With a bank (R, L, C) of several pictures, the keys (layers, L, d) of the nearest follow; with one, `keys` holds them.
    """

    bank: Tensor

    def __init__(self, network: LevelNetwork, bank: Tensor) -> None:
        super().__init__()
        self.network, self.chooses = network, len(bank) > 1
        embedded = None if self.chooses else self._embedded(bank)
        layers = [FoldedLayer(layer, embedded) for layer in network.layers]  # type: ignore[arg-type]
        self.layers = nn.ModuleList(layers)
        self.register_buffer("bank", bank if self.chooses else None)
        self.keys = None if self.chooses else np.concatenate([layer.keys.numpy() for layer in layers])

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """As `LevelNetwork`, with what the divergence is made of."""
        shape, tokens = features.shape, to_tokens(features)
        x = self.network.embed(tokens) + self.network.position
        known = self._embedded(nearest_reference(tokens, self.bank, but_itself=False)) if self.chooses else None
        outputs = []
        for layer in self.layers:
            x, *found = layer(x, known)
            outputs.append(found)
        rebuilt = self.network.rebuild(self.network.norm(x))
        maps = (part.transpose(1, 2).reshape(shape) for part in (tokens, rebuilt))
        queries, sigmas, keys = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        return (*maps, queries, sigmas, keys) if self.chooses else (*maps, queries, sigmas)

    def _embedded(self, known: Tensor) -> Tensor:
        embedded: Tensor = self.network.embed_reference(known) + self.network.position
        return embedded


class FoldedFod(nn.Module):
    """Normalised image (1, 3, side, side) → the outputs of both levels. keys: of a constant reference, per level (layers, L, d)."""

    def __init__(self, networks: Fod) -> None:
        super().__init__()
        self.backbone = fold_batch_norms(networks.backbone)
        levels = [
            FoldedLevel(network, networks.bank(index))  # type: ignore[arg-type]
            for index, network in enumerate(networks.levels)
        ]
        self.levels = nn.ModuleList(levels)
        self.keys = [level.keys for level in levels]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the edge needs to compute the score."""
        features = self.backbone(image)
        return tuple(out for level, part in zip(self.levels, features, strict=True) for out in level(part))


@torch.no_grad()
def fold(networks: Fod) -> FoldedFod:
    """The network to export; the given networks stay as they are."""
    return FoldedFod(networks.eval()).eval().requires_grad_(False)


def export(networks: Fod, config: FodConfig, _border_mode: str) -> Exported:
    """One graph for both levels, and the keys of a constant reference as tables."""
    folded, chooses = fold(networks), config.reference == "nearest"
    whats = ("features", "rebuilt", "queries", "sigmas", *(("keys",) if chooses else ()))
    outputs = [f"{what}_{level}" for level in LEVELS for what in whats]
    parameters = {
        "blur": config.blur,
        "channels": list(networks.channels),
        "heads": config.heads,
        "layers": config.layers,
        "modulation": config.modulation,
        "reference": config.reference,
        "sides": [config.side // 8, config.side // 16],
        "widths": [config.width_fine, config.width_coarse],
    }
    tables = {table_name(name): keys for name, keys in zip(LEVELS, folded.keys, strict=True) if keys is not None}
    graph, onnx = trace(folded, GRAPH, config.side, outputs)
    return Exported({GRAPH: (replace(graph, precision="f32"), onnx)}, parameters, tables)


def branches(_parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """One map of each level."""
    return LEVELS


def normalise(_raw: Raw, _size: tuple[int, int], _parameters: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """FOD has no calibration of its maps."""
    return {}


def answer(
    networks: Fod, pixels: Tensor, _normalisation: Normalisation, parameters: Mapping[str, Any]
) -> tuple[float, Raw]:
    """The unfolded networks, and the linear tail in float64."""
    raw, full = {}, np.zeros((), np.float64)
    for name, side, (error, divergence) in zip(LEVELS, parameters["sides"], networks(pixels), strict=True):
        small = modulated(error, divergence, str(parameters["modulation"])).reshape(side, side).numpy()
        enlarge = tail(side, pixels.shape[2], float(parameters["blur"])).astype(np.float64)
        raw[name], full = small, full + 0.5 * (enlarge @ small @ enlarge.T)
    return float(full.max()), raw
