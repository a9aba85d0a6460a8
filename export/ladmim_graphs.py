"""The networks of LADMIM as the edge runs them: three graphs and the tables between them, each equal to what was trained.

Foldings, each exact (methods card §6.7, §10.2):
* the standardisation of the features goes into the teacher's last convolution: it commutes with the 2×2 mean;
* ψ is linear: what it makes of the top entry is a table with one row for each top code; behind the identity ψ the top entry's share of
  the score is a table over both codes;
* the decoder attends to memories, and its first layer to itself, through keys and values that follow from the codes: these are tables
  too, and so is the first query. What the position adds to queries and keys is a constant. It takes 7 % from looking up and decoding
  in f32 and 5 % in bf16 (OpenVINO, one thread, the paper's size). The kernel looks up, not the graph: a graph in bf16 rounds codes;
* LayerScale goes into the layer before it;
* the masks are constants: patches are projected and enter the first attention once, not once for each mask, and what stands for a
  hidden patch there is a constant;
* the last layer is computed only for the tokens that are predicted from, which see all others through their keys and values: for
  histograms the prediction token, for other targets the hidden tokens.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import torch
from lad_edge.export.efficient_ad import first_in_two_parts, fold_standardisation
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.detectors.hvq import Attention, Hvq, Layer, Quantisers, applied
from lad_edge.detectors.ladmim import Block, Ladmim, MimTransformer
from lad_edge.kernels import Codebook


class FoldedEncoder(nn.Module):
    """Normalised image (1, 3, 224, 224) → h0 (1, C, side, side) and tokens (1 + levels, L, d) in the order of the codebooks."""

    def __init__(self, networks: Ladmim) -> None:
        super().__init__()
        self.trunk = first_in_two_parts(networks.teacher.trunk)
        self.head = fold_standardisation(networks.teacher.head, networks.mean, networks.std)
        self.hvq = networks.hvq

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As `Ladmim.describe` and `Hvq.encode`."""
        features = functional.avg_pool2d(self.head(self.trunk(image)), 2)
        return features, torch.cat(self.hvq.encode(features))


class FoldedDecoder(nn.Module):
    """Rows of the tables of `first_rows` and `codebooks`, (2 + levels, L, 2m) → ĥ0 (1, C, side, side)."""

    position: Tensor
    first: Tensor
    keys: Tensor

    def __init__(self, hvq: Hvq) -> None:
        super().__init__()
        self.hvq, position = hvq, hvq.position().repeat(1, hvq.repeat)
        layers = [cast("Layer", layer) for layer in hvq.decoder]
        first = layers[0].attend
        self.register_buffer("position", position)
        self.register_buffer("first", torch.stack([first.query(position), first.key(position)]))
        self.register_buffer("keys", torch.stack([memory_of(layer).key(position) for layer in layers]))

    def forward(self, rows: Tensor) -> Tensor:
        """As `Hvq.decode`."""
        (x, q), (k, v), *memories = (part.chunk(2, -1) for part in rows.chunk(len(rows)))
        for index, (keys, values) in enumerate(memories):
            layer = cast("Layer", self.hvq.decoder[index])
            attend, recall, placed = layer.attend, memory_of(layer), x + self.position
            found = attend(placed, placed, x) if index else attend.mix(q + self.first[0], k + self.first[1], v)
            x = layer.norms[0](x + found)
            x = layer.norms[1](x + recall.mix(recall.query(x + self.position), keys + self.keys[index], values))
            x = layer.norms[2](x + layer.feed_forward(x))
        return self.hvq.unembed(x)


def memory_of(layer: Layer) -> Attention:
    """The attention of a decoder's layer to its memory."""
    assert layer.recall is not None  # noqa: S101 - layers of the decoder have one
    return layer.recall


class FoldedMim(nn.Module):
    """h0 (1, C, side, side) → the target's predictions for fixed masks (M, L): logits (M, levels, K) for histograms."""

    masks: Tensor
    first: Tensor
    hidden: Tensor
    asked: Tensor

    def __init__(self, network: MimTransformer, masks: Tensor) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        self.network.blocks = nn.ModuleList(fold_layer_scale(block) for block in network.blocks)  # type: ignore[arg-type]
        self.register_buffer("masks", masks[..., None])
        self.register_buffer("first", (network.prediction + network.position[0])[None, None])
        self.register_buffer("hidden", (network.hidden + network.position[1:])[None])
        rows = torch.arange(masks.shape[0] * (1 + masks.shape[1])).view(len(masks), -1)
        # Which of all masks' tokens, in one line: (M,), or (M, n).
        self.register_buffer("asked", network.target.asked(rows, masks))
        block: Block = self.network.blocks[0]  # type: ignore[assignment]
        for name, tokens in (("first", self.first), ("hidden", self.hidden)):
            for part, values in zip("qkv", _queries_keys_values(block, tokens), strict=True):
                self.register_buffer(f"{name}_{part}", values)

    def forward(self, features: Tensor) -> Tensor:
        """As `MimTransformer` with each mask."""
        network, seen = self.network, self.network.embed(features.flatten(2).transpose(1, 2))
        seen = seen + network.position[1:]
        x = self._blend("", seen)
        qkv = _queries_keys_values(network.blocks[0], seen)  # type: ignore[arg-type]
        q, k, v = (self._blend(f"_{part}", values) for part, values in zip("qkv", qkv, strict=True))
        for index, block in enumerate(network.blocks):
            asking = self._asking if index == len(network.blocks) - 1 else _all
            if index:
                normed = block.norm_attend(x)  # type: ignore[operator]
                attend = block.attend
                q, k, v = attend.query(asking(normed)), attend.key(normed), attend.value(normed)  # type: ignore[operator, union-attr]
            else:
                q = asking(q)
            x = asking(x) + block.attend.mix(q, k, v)  # type: ignore[operator, union-attr]
            x = x + block.mlp(block.norm_mlp(x))  # type: ignore[operator]
        predicted = network.predict(network.norm(x)).reshape(*self.asked.shape, *network.target.shape)
        return network.target.finish(predicted)

    def _asking(self, tokens: Tensor) -> Tensor:
        """(M, 1 + L, d) → (M, k, d): those that are predicted from."""
        return tokens.flatten(0, 1)[self.asked.flatten()].reshape(len(tokens), -1, tokens.shape[2])

    def _blend(self, name: str, seen: Tensor) -> Tensor:
        """The prediction token's row, then the constant where a mask hides and `seen` where it does not: (M, 1 + L, d)."""
        tokens = torch.where(self.masks, getattr(self, f"hidden{name}"), seen)
        return torch.cat([getattr(self, f"first{name}").expand(len(tokens), -1, -1), tokens], 1)


def _all(tokens: Tensor) -> Tensor:
    return tokens


def _queries_keys_values(block: Block, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    normed, attend = block.norm_attend(tokens), block.attend
    return attend.query(normed), attend.key(normed), attend.value(normed)


@torch.no_grad()
def fold_layer_scale(block: Block) -> Block:
    """A copy whose last layers of attention and MLP are scaled, and which scales nothing afterwards."""
    folded = copy.deepcopy(block)
    scaled: list[tuple[Any, Tensor]] = [
        (folded.attend.project, folded.scale_attend),
        (folded.mlp[-1], folded.scale_mlp),
    ]
    for layer, scale in scaled:
        layer.weight.mul_(scale[:, None])
        layer.bias.mul_(scale)
        scale.fill_(1.0)
    return folded


@torch.no_grad()
def first_rows(hvq: Hvq) -> Tensor:
    """(2, K, 2m), for each code of the deepest level: the memory beside the first query, the first key beside the first value."""
    memory, layer = memories(hvq.quantisers)[0], cast("Layer", hvq.decoder[0]).attend
    query, key = (functional.linear(memory, part.weight.double()) for part in (layer.query, layer.key))
    return torch.stack([torch.cat([memory, query], 1), torch.cat([key, applied(layer.value, memory)], 1)])


def memories(quantisers: Quantisers) -> list[Tensor]:
    """Of each level (K, m): what the decoder is given for each code, float64."""
    return [
        applied(remember, book.entries.double())
        for book, remember in zip(quantisers.books()[1:], quantisers.remember, strict=True)
    ]


def _keys_and_values(hvq: Hvq) -> list[Tensor]:
    """Of each level (K, 2m): the decoder's key beside its value, without what the position adds."""
    layers = [memory_of(cast("Layer", layer)) for layer in hvq.decoder]
    return [
        torch.cat([functional.linear(memory, layer.key.weight.double()), applied(layer.value, memory)], 1)
        for memory, layer in zip(memories(hvq.quantisers), layers, strict=True)
    ]


@torch.no_grad()
def codebooks(hvq: Hvq) -> list[Codebook]:
    """The tables of `kernels.Quantizer`: the top codebook, then the levels, deepest first; memories are keys and values of the decoder."""
    quantisers, recalled = hvq.quantisers, _keys_and_values(hvq)
    books = [book.entries.double() for book in quantisers.books()]
    top, width = quantisers.top.entries.double(), books[0].shape[1]
    if not isinstance(quantisers.psi_top, nn.Linear):
        nothing = torch.zeros(1, width)
        made = [_tables(None, nothing, top, None, None)]
        for entries, memory in zip(books[1:], recalled, strict=True):
            prior = -0.5 * torch.cdist(top, entries[:, width:]).square()
            made.append(_tables(None, nothing, entries[:, :width], prior, memory))
        return made
    psi, levels = quantisers.psi_top, cast("list[nn.Linear]", list(quantisers.psi))
    made = [_tables(psi.weight, psi.bias[None], top, None, None)]
    for entries, level, memory in zip(books[1:], levels, recalled, strict=True):
        weight, bias = level.weight.double(), level.bias.double()
        own = weight.shape[1] - width
        shift = top @ weight[:, own:].T + bias
        made.append(_tables(weight[:, :own], shift, entries, None, memory))
    return made


def _tables(
    projection: Tensor | None, shift: Tensor, entries: Tensor, prior: Tensor | None, memory: Tensor | None
) -> Codebook:
    """Float32 of the same distances, with the middle of the entries as the origin.

    Entries that lie close together and far from zero would otherwise lose to rounding the digits in which they differ.
    """
    middle = entries.mean(0)
    tables = projection, shift - middle, entries - middle, prior, memory
    return Codebook(*(None if table is None else np.ascontiguousarray(table.float().numpy()) for table in tables))  # type: ignore[arg-type]
