"""HVQ-Trans: rebuilds features from five maps of codes and nothing else (Lu et al., NeurIPS 2023, methods card §6.2).

A transformer encodes the tokens of a picture; a star of codebooks replaces what it says at each depth by the nearest of a few hundred
entries: the top one by the deepest tokens alone, each other one by its own tokens and the top entry. A decoder rebuilds the tokens from
those entries. It was trained on good parts, whose entries know no defects: where the rebuilt tokens differ, a part is anomalous. The
codes are an alphabet of patches besides, whose counts the second half of LADMIM predicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.backbones.pdn import PDN_SIZES
from lad_edge.detectors.batches import Descriptions, Images, autocast, decay
from lad_edge.detectors.codebook import COMMITMENT, Codebook
from lad_edge.errors import UsageError

SIDE = 224  # px: 48 cells of the teacher, 24 tokens
PSI = ("linear", "identity")
MOST_ENTRIES = 4096


@dataclass(frozen=True)
class HvqConfig:
    """The first stage: the card's recipe for one class of parts (§6.2)."""

    size: str = "s"  # of the teacher
    side: int = 224
    width: int = 256
    heads: int = 8
    feed_forward: int = 1024
    layers: int = 4  # of the encoder, of the decoder, and codebooks beside the top one
    entries: int = 512  # of each codebook
    code_width: int = 64  # numbers in an entry, behind a linear ψ
    psi: str = "linear"  # what stands before a codebook, or "identity" as in HVQ-Trans (L-1)
    codebook: str = "ema"  # how entries learn, or "gradient" as in the paper's equation (L-4)
    patience_epochs: int = 2  # after which an unused entry starts again
    dropout: float = 0.1
    epochs: int = 1000
    steps: int = 0  # 0: as many as the epochs hold
    batch: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    schedule: str = "step"
    decay_from: float = 0.8
    seed: int = 0

    def check(self) -> None:
        """Raises UsageError for values out of range."""
        if self.size not in PDN_SIZES:
            raise UsageError(f"--size {self.size}: expected one of {', '.join(PDN_SIZES)}")
        if self.side != SIDE:
            raise UsageError(f"--side {self.side}: the grid of 24×24 tokens needs {SIDE}; leave it out")
        for name, known in (("psi", PSI), ("codebook", tuple(COMMITMENT))):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)}: expected one of {', '.join(known)}")
        if self.width % (2 * self.heads):
            raise UsageError(f"width {self.width}: expected a multiple of {2 * self.heads}, twice the heads")
        for name in ("layers", "code_width", "patience_epochs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least 1")
        if not 2 <= self.entries <= MOST_ENTRIES:
            raise UsageError(f"entries {self.entries}: expected 2 to {MOST_ENTRIES}")


class Attention(nn.Module):
    """Multi-head attention: queries (N, Lq, d), keys and values (N, L, d) → (N, Lq, d)."""

    def __init__(self, width: int, heads: int, dropout: float, *, key_bias: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.value, self.project = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=key_bias)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Mix the values by the likeness of queries and keys."""
        return self.mix(self.query(queries), self.key(keys), self.value(values))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The same, of what the first three layers made."""
        q, k, v = (x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q, k, v))
        # Written out: torch's fused attention needs three times as long for the gradients of 576 tokens on a CPU.
        shares = torch.softmax((q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2), -1)
        shares = functional.dropout(shares, self.dropout, self.training)
        projected: Tensor = self.project((shares.to(v.dtype) @ v).transpose(1, 2).flatten(2))
        return projected


class Layer(nn.Module):
    """Post-norm layer of encoder and decoder: self-attention, attention to a memory if there is one, feed-forward (§6.2)."""

    def __init__(self, width: int, config: HvqConfig, *, memory: bool) -> None:
        super().__init__()
        self.attend = Attention(width, config.heads, config.dropout)
        self.recall = Attention(width, config.heads, config.dropout) if memory else None
        self.feed_forward = nn.Sequential(
            nn.Linear(width, config.feed_forward),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feed_forward, width),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if memory else 2))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, position: Tensor, memory: Tensor | None = None) -> Tensor:
        """(N, L, d) alike; the position (L, d) is added to queries and keys only."""
        x = self.norms[0](x + self.drop(self.attend(x + position, x + position, x)))
        if self.recall is not None and memory is not None:
            x = self.norms[1](x + self.drop(self.recall(x + position, memory + position, memory)))
        normed: Tensor = self.norms[-1](x + self.drop(self.feed_forward(x)))
        return normed


class Quantised(NamedTuple):
    """memories: per level, deepest first, (N, L, m), what the decoder is given; loss: of all codebooks."""

    memories: list[Tensor]
    loss: Tensor


class Quantisers(nn.Module):
    """The star: a top codebook on the deepest tokens, and one for each depth on its tokens beside the top entry (decisions L-1 to L-3)."""

    def __init__(self, config: HvqConfig) -> None:
        super().__init__()
        d, linear = config.width, config.psi == "linear"
        top, below = (config.code_width,) * 2 if linear else (d, 2 * d)
        self.memory_width = d if linear else below
        self.psi_top: nn.Module = nn.Linear(d, top) if linear else nn.Identity()
        self.psi = nn.ModuleList(nn.Linear(d + top, below) if linear else nn.Identity() for _ in range(config.layers))
        self.top = Codebook(config.entries, top, config.codebook)
        self.levels = nn.ModuleList(Codebook(config.entries, below, config.codebook) for _ in range(config.layers))
        self.remember = nn.ModuleList(nn.Linear(below, d) if linear else nn.Identity() for _ in range(config.layers))

    def books(self) -> list[Codebook]:
        """The top codebook, then those of the levels, deepest first."""
        return [self.top, *self.levels]

    def forward(self, depths: list[Tensor]) -> Quantised:
        """Tokens of each depth, deepest first and the deepest twice over: e4, e3 … e0."""
        z, loss = self.top(self.psi_top(depths[0]))
        memories, losses = [], [loss]
        for psi, book, remember, tokens in zip(self.psi, self.levels, self.remember, depths[1:], strict=True):
            entry, loss = book(psi(torch.cat([tokens, z], -1)))
            memories.append(remember(entry))
            losses.append(loss)
        return Quantised(memories, torch.stack(losses).sum())

    @torch.no_grad()
    def codes(self, depths: list[Tensor]) -> Tensor:
        """(N, 1 + levels, L) indices, the top one first; in float64, so that near ties fall as they should."""
        wide = [tokens.double() for tokens in depths]
        top = self.top.codes(applied(self.psi_top, wide[0]))
        z = self.top.entries.double()[top]
        others = [
            book.codes(applied(psi, torch.cat([tokens, z], -1)))  # type: ignore[operator]
            for psi, book, tokens in zip(self.psi, self.levels, wide[1:], strict=True)
        ]
        return torch.stack([top, *others], 1)

    def memories(self, codes: Tensor) -> list[Tensor]:
        """Of the codes of the levels (N, levels, L), deepest first: per level (N, L, m)."""
        return [
            remember(book.entries[codes[:, index]])  # type: ignore[index]
            for index, (book, remember) in enumerate(zip(self.levels, self.remember, strict=True))
        ]


def applied(psi: nn.Module, x: Tensor) -> Tensor:
    """ψ(x) in the precision of x."""
    if not isinstance(psi, nn.Linear):
        return x
    return functional.linear(x, psi.weight.to(x.dtype), psi.bias.to(x.dtype))


class Hvq(nn.Module):
    """h0 (N, C, side, side), standardised features → their reconstruction, by way of the codes (§6.2)."""

    def __init__(self, channels: int, side: int, config: HvqConfig) -> None:
        super().__init__()
        d, self.side = config.width, side
        self.embed = nn.Linear(channels, d)
        self.rows, self.columns = (nn.Parameter(torch.rand(side, d // 2)) for _ in range(2))
        self.encoder = nn.ModuleList(Layer(d, config, memory=False) for _ in range(config.layers))
        self.quantisers = Quantisers(config)
        wide = self.quantisers.memory_width
        self.repeat = wide // d  # the position stands once for each part of a memory
        self.decoder = nn.ModuleList(Layer(wide, config, memory=True) for _ in range(config.layers))
        self.norm, self.rebuild = nn.LayerNorm(wide), nn.Linear(wide, channels)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and not name.startswith(("rows", "columns", "quantisers")):
                nn.init.xavier_uniform_(parameter)

    def position(self) -> Tensor:
        """(side², d): the first half codes the column, the second the row."""
        columns = self.columns[None].expand(self.side, -1, -1)
        rows = self.rows[:, None].expand(-1, self.side, -1)
        return torch.cat([columns, rows], -1).flatten(0, 1)

    def encode(self, features: Tensor) -> list[Tensor]:
        """Tokens (N, L, d) of each depth in the order of the codebooks: the deepest for the top one, then e3 … e0."""
        x = self.embed(features.flatten(2).transpose(1, 2))
        depths, position = [x], self.position()
        for layer in self.encoder:
            depths.append(layer(depths[-1], position))
        return depths[::-1]

    def decode(self, memories: list[Tensor]) -> Tensor:
        """Memories, deepest first → ĥ0 (N, C, side, side). The first query is the deepest memory itself."""
        x, position = memories[0], self.position().repeat(1, self.repeat)
        for layer, memory in zip(self.decoder, memories, strict=True):
            x = layer(x, position, memory)
        return self.unembed(x)

    def unembed(self, x: Tensor) -> Tensor:
        """The decoder's last tokens (N, L, m) → (N, C, side, side)."""
        return self.rebuild(self.norm(x)).transpose(1, 2).unflatten(2, (self.side, self.side))  # type: ignore[no-any-return]

    @torch.no_grad()
    def codes(self, features: Tensor) -> Tensor:
        """(N, 1 + levels, L), the top one first."""
        return self.quantisers.codes(self.encode(features))

    def forward(self, features: Tensor) -> Tensor:
        """ĥ0, a function of the codes alone."""
        return self.decode(self.quantisers.memories(self.codes(features)[:, 1:]))


class HvqNetworks(Protocol):
    """What the first stage trains."""

    hvq: Hvq

    def describe(self, image: Tensor) -> Tensor:
        """The standardised features of normalised images."""


class HvqTask:
    """One step of the first stage: reconstruction and the terms of the codebooks; these learn behind the step (§6.2)."""

    clip_norm = 0.1

    def __init__(self, networks: HvqNetworks, images: Images, config: HvqConfig) -> None:
        self.hvq, self.config = networks.hvq, config
        self.modules: Mapping[str, nn.Module] = {"hvq": networks.hvq}
        trained = [p for p in networks.hvq.parameters() if p.requires_grad]
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(
            trained, config.learning_rate, weight_decay=config.weight_decay
        )
        self.schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, decay(config)
        )
        self.features = Descriptions(networks.describe, images)
        self.patience = max(1, config.patience_epochs * len(images) // config.batch)
        networks.hvq.train()

    def losses(self, step: int) -> dict[str, Tensor]:
        """MSE of the rebuilt features and the sum over codebooks."""
        features = self.features.batch(step, self.config.batch)
        with autocast(features.device):
            depths = self.hvq.encode(features)
        quantised = self.hvq.quantisers([tokens.float() for tokens in depths])
        with autocast(features.device):
            rebuilt = self.hvq.decode(quantised.memories)
        return {"reconstruction": functional.mse_loss(rebuilt.float(), features), "codebooks": quantised.loss}

    def after_step(self) -> None:
        """The codebooks learn."""
        for book in self.hvq.quantisers.books():
            book.update(self.patience)
