"""How far attention is from its Gaussian target, and how spread it is, with gradients, a few rows at a time (methods card §5.5).

Written down plainly, each of the dozen element-wise steps between the softmax and the losses reads and writes the whole (heads, L, L)
array, and their gradients do so again: nine tenths of a training step of FOD. Here both sums, and on the way back both gradients, are
made from blocks of rows that stay in the cache; the target is never whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-4  # inside the logarithms
BLOCK = {"cpu": 1 << 15}  # values of a block: what is computed from them stays in the second cache
BLOCK_ELSEWHERE = 1 << 26


class Correlation(NamedTuple):
    """One attention of one layer: softmax S (N, heads, L, L) and its target's factors along rows and columns (N, heads, L, side)."""

    softmax: Tensor
    rows: Tensor
    columns: Tensor

    @property
    def target(self) -> Tensor:
        """T (N, heads, L, L): the outer product of both factors (decision F-1)."""
        return (self.rows[..., :, None] * self.columns[..., None, :]).flatten(-2)


def symmetric_kl(correlation: Correlation) -> Tensor:
    """KL(S‖T) + KL(T‖S) of each token, mean over heads: (N, L). Both sums in one: Σ (T - S)(log(T + ε) - log(S + ε)) (§5.7)."""
    target, softmax = correlation.target, correlation.softmax
    return ((target - softmax) * ((target + EPSILON).log() - (softmax + EPSILON).log())).sum(-1).mean(1)


def divergence_and_entropy(correlation: Correlation, *, pulled: str) -> tuple[Tensor, Tensor]:
    """Means over pictures, heads and tokens of `symmetric_kl` and of the entropy -Σ S log(S + ε).

    pulled: what the divergence pulls towards the other, "softmax" or "target"; the other is pushed away, by the reversed gradient.
    """
    divergence, entropy = _Means.apply(*correlation, pulled)  # type: ignore[no-untyped-call]
    return divergence, entropy


class _Means(torch.autograd.Function):
    """Both means; nothing but the softmax and the factors is kept for the way back."""

    @staticmethod
    def forward(context: Any, softmax: Tensor, rows: Tensor, columns: Tensor, pulled: str) -> tuple[Tensor, Tensor]:
        """Sum over all blocks."""
        context.save_for_backward(softmax, rows, columns)
        context.sign = 1 if pulled == "softmax" else -1
        sums = torch.zeros(2, dtype=torch.float64, device=softmax.device)
        for s, r, c in _blocks(softmax, rows, columns):
            block = _Block(s, r, c)
            sums[0] += torch.dot(block.difference.flatten(), block.log_ratio.flatten())
            sums[1] -= torch.dot(s.flatten(), block.log_s.flatten())
        divergence, entropy = (sums / softmax[..., 0].numel()).to(softmax.dtype)
        return divergence, entropy

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the blocks again; each gives its rows of the gradients."""
        known = context.saved_tensors
        of_divergence, of_entropy = (gradient / known[0][..., 0].numel() for gradient in gradients)
        found = tuple(torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in known)
        for (s, r, c), (by_s, by_r, by_c) in zip(_blocks(*known), _blocks(*found), strict=True):
            block = _Block(s, r, c)
            torch.mul(block.divergence_by_softmax(), context.sign * of_divergence, out=by_s)
            by_s.addcmul_(block.entropy_by_softmax(), of_entropy)
            by_target = block.divergence_by_target().view(*r.shape, -1) * (-context.sign * of_divergence)
            by_r.copy_((by_target @ c[..., None])[..., 0])
            by_c.copy_((r[:, None] @ by_target)[:, 0])
        return (*found, None)


class _Block:
    """Rows of the softmax S (n, L), and what both sums and their derivatives share, alike."""

    def __init__(self, s: Tensor, rows: Tensor, columns: Tensor) -> None:
        target = (rows[:, :, None] * columns[:, None, :]).flatten(1)
        self.s, self.difference = s, target - s
        self.above_s, self.above_target = s + EPSILON, target.add_(EPSILON)
        self.log_s = self.above_s.log()
        self.log_ratio = self.above_target.log().sub_(self.log_s)

    def divergence_by_softmax(self) -> Tensor:
        """∂/∂S of Σ (T - S)(log(T + ε) - log(S + ε))."""
        return (self.difference / self.above_s).add_(self.log_ratio).neg_()

    def divergence_by_target(self) -> Tensor:
        """∂/∂T of the same."""
        return (self.difference / self.above_target).add_(self.log_ratio)

    def entropy_by_softmax(self) -> Tensor:
        """∂/∂S of -Σ S log(S + ε)."""
        return (self.s / self.above_s).add_(self.log_s).neg_()


def _blocks(softmax: Tensor, rows: Tensor, columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of some rows of all three, in order."""
    count = max(1, BLOCK.get(softmax.device.type, BLOCK_ELSEWHERE) // softmax.shape[-1])
    return zip(*(torch.split(tensor.flatten(0, -2), count) for tensor in (softmax, rows, columns)), strict=True)
