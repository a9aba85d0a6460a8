"""A codebook: vectors go in, the nearest of a few hundred entries come out, and the entries learn (methods card §6.2, decision L-4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MOMENTUM = 0.99  # of the moving averages that make a codebook
SMOOTHING = 1e-5
COMMITMENT = {"ema": 0.25, "gradient": 1.0}  # weight of the tokens' way to their entries (L-4)


class Codebook(nn.Module):
    """K entries of width q; vectors (..., q) are replaced by the nearest one.

    "ema": entries are moving averages of what was assigned to them (decision L-4). The first batch provides the first entries, and an
    entry that nothing came to for `patience` updates starts again from a vector of the batch. "gradient": entries follow their gradient.
    """

    counts: Tensor
    sums: Tensor
    idle: Tensor

    def __init__(self, entries: int, width: int, learning: str) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.randn(entries, width), requires_grad=learning == "gradient")
        self.register_buffer("counts", torch.zeros(entries))
        self.register_buffer("sums", torch.zeros(entries, width))
        self.register_buffer("idle", torch.zeros(entries))  # updates since something came
        self.seen: tuple[Tensor, Tensor] | None = None

    def codes(self, x: Tensor) -> Tensor:
        """Indices of the nearest entries, the lowest on ties: argmax of x·b - |b|²/2 (§6.7)."""
        entries = self.entries.detach().to(x.dtype)
        return (x @ entries.T - 0.5 * entries.square().sum(1)).argmax(-1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest entries, with the gradient of x (straight-through), and the terms of the loss."""
        if self.training and not self.entries.requires_grad and not bool(self.counts.any()):
            self._begin(x.detach().flatten(0, -2))
        codes = self.codes(x.detach())
        chosen = self.entries[codes]
        if self.training:
            self.seen = (x.detach().flatten(0, -2), codes.flatten())
        loss = COMMITMENT["ema"] * functional.mse_loss(x, chosen.detach())
        if self.entries.requires_grad:
            loss = COMMITMENT["gradient"] * functional.mse_loss(x, chosen.detach())
            loss = loss + functional.mse_loss(chosen, x.detach())
        return x + (chosen - x).detach(), loss

    def _begin(self, vectors: Tensor) -> None:
        """Entries are vectors of the first batch, each as if one had come."""
        self.entries.data.copy_(_drawn(vectors, len(self.entries)))
        self.sums.copy_(self.entries.data)
        self.counts.fill_(1.0)

    @torch.no_grad()
    def update(self, patience: int) -> None:
        """Move the entries towards what the last batch assigned to them; start dead ones again."""
        if self.seen is None or self.entries.requires_grad:
            return
        (vectors, codes), self.seen = self.seen, None
        came = torch.bincount(codes, minlength=len(self.entries)).to(self.counts.dtype)
        total = torch.zeros_like(self.sums).index_add_(0, codes, vectors.to(self.sums.dtype))
        self.counts.lerp_(came, 1 - MOMENTUM)
        self.sums.lerp_(total, 1 - MOMENTUM)
        everything = self.counts.sum()
        smoothed = (self.counts + SMOOTHING) / (everything + len(self.entries) * SMOOTHING) * everything
        self.entries.data.copy_(self.sums / smoothed[:, None])
        self.idle.copy_(torch.where(came > 0, torch.zeros_like(self.idle), self.idle + 1))
        self._reseed(vectors, self.idle >= patience)

    def _reseed(self, vectors: Tensor, dead: Tensor) -> None:
        if not bool(dead.any()):
            return
        fresh = _drawn(vectors, int(dead.sum()))
        self.entries.data[dead], self.sums[dead] = fresh, fresh
        self.counts[dead], self.idle[dead] = 1.0, 0.0


def _drawn(vectors: Tensor, count: int) -> Tensor:
    """`count` rows at random, each at most once while there are enough."""
    order = torch.cat([torch.randperm(len(vectors)) for _ in range(-(-count // len(vectors)))])
    return vectors[order[:count].to(vectors.device)].float()
