"""What the second stage of LADMIM predicts of the hidden tokens, and how far a prediction is off (methods card §6.3, paper Table 8).

The paper's choice is the histogram: how often each code occurs among all hidden tokens, predicted at once by a token of its own. The
other targets of its comparison are predicted for each hidden token: its codes, its features, its pixels. Training minimises a distance
between prediction and truth, and the same distance is the score of a mask. The paper writes it out for the histogram alone (§6.5); for
the other targets it is our decision: the mean over the hidden tokens of what is usual for such a target.

Masks are (N, L) bool and hide equally many tokens, n, in each row; hidden tokens stand in reading order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from lad_edge.scoring.targets import PATCH


class Truth(NamedTuple):
    """Of N images: pixels (N, 3, H, W), normalised; features h0 (N, C, side, side); codes (N, levels, L)."""

    pixels: Tensor
    features: Tensor
    codes: Tensor

    def expand(self, count: int) -> Truth:
        """One image for each of `count` masks."""
        return Truth(*(values.expand(count, *values.shape[1:]) for values in self))


class Target(Protocol):
    """shape: of the prediction at one token of the sequence."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one prediction."""

    def asked(self, sequence: Tensor, masks: Tensor) -> Tensor:
        """Of (N, 1 + L, ...), the prediction token first, what is predicted from: (N, ...) or (N, n, ...)."""

    def finish(self, predicted: Tensor) -> Tensor:
        """What the last layer gives → the prediction, of the same shape."""

    def distance(self, predicted: Tensor, truth: Truth, masks: Tensor) -> Tensor:
        """(N,), at least 0: the loss of each image, and the score of its mask."""


@dataclass(frozen=True)
class HistogramTarget:
    """Logits of the shares of codes among the hidden tokens: (N, levels, K)."""

    levels: int
    entries: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Levels and codes."""
        return (self.levels, self.entries)

    def asked(self, sequence: Tensor, _masks: Tensor) -> Tensor:
        """The prediction token."""
        return sequence[:, 0]

    def finish(self, predicted: Tensor) -> Tensor:
        """Logits as they are."""
        return predicted

    def distance(self, predicted: Tensor, truth: Truth, masks: Tensor) -> Tensor:
        """Σ over levels and codes of the absolute differences (§6.3)."""
        return histogram_distance(predicted, histograms(truth.codes, masks, self.entries))


class Tokenwise:
    """Predicts something of each hidden token, from what stands for it."""

    def asked(self, sequence: Tensor, masks: Tensor) -> Tensor:
        """The hidden tokens."""
        return hidden(sequence[:, 1:], masks)

    def finish(self, predicted: Tensor) -> Tensor:
        """Values as they are."""
        return predicted


@dataclass(frozen=True)
class CodeTarget(Tokenwise):
    """Logarithms of the probabilities of each hidden token's codes: (N, n, levels, K)."""

    levels: int
    entries: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Levels and codes."""
        return (self.levels, self.entries)

    def finish(self, predicted: Tensor) -> Tensor:
        """Logits → logarithms of probabilities."""
        return torch.log_softmax(predicted, -1)

    def distance(self, predicted: Tensor, truth: Truth, masks: Tensor) -> Tensor:
        """Cross entropy: Σ over levels of the mean over tokens of -log p(code)."""
        codes = hidden(truth.codes.transpose(1, 2), masks).long()
        return -predicted.float().gather(-1, codes[..., None])[..., 0].mean(1).sum(1)


@dataclass(frozen=True)
class FeatureTarget(Tokenwise):
    """The standardised features of each hidden token: (N, n, C)."""

    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels."""
        return (self.channels,)

    def distance(self, predicted: Tensor, truth: Truth, masks: Tensor) -> Tensor:
        """Mean over tokens and channels of the squared error."""
        return squared_error(predicted, hidden(truth.features.flatten(2).transpose(1, 2), masks))


@dataclass(frozen=True)
class PixelTarget(Tokenwise):
    """The normalised pixels in the middle of what each hidden token describes: (N, n, 3 · 8 · 8)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Colours, rows and columns of a patch, in one."""
        return (3 * PATCH * PATCH,)

    def distance(self, predicted: Tensor, truth: Truth, masks: Tensor) -> Tensor:
        """Mean over tokens and pixels of the squared error."""
        return squared_error(predicted, hidden(patches(truth.pixels, truth.features.shape[-1]), masks))


TARGETS: Mapping[str, Callable[[int, int, int], Target]] = {  # (levels, entries, channels) → target
    "histogram": lambda levels, entries, _: HistogramTarget(levels, entries),
    "code": lambda levels, entries, _: CodeTarget(levels, entries),
    "feature": lambda _levels, _entries, channels: FeatureTarget(channels),
    "pixel": lambda *_: PixelTarget(),
}


def hidden(values: Tensor, masks: Tensor) -> Tensor:
    """(N, L, ...) → (N, n, ...): those of the hidden tokens."""
    found = values[masks]
    return found.reshape(len(masks), len(found) // len(masks), *found.shape[1:])


def patches(pixels: Tensor, side: int) -> Tensor:
    """(N, 3, H, W) → (N, side², 3 · 8 · 8): 8×8 px in the middle of the patch that a token of the grid describes (§6.1)."""
    margin = (pixels.shape[-1] - side * PATCH) // 2
    inner = pixels[..., margin : margin + side * PATCH, margin : margin + side * PATCH]
    return functional.unfold(inner, PATCH, stride=PATCH).transpose(1, 2)


def squared_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """(N, n, D) alike → (N,) means."""
    return (predicted.float() - truth).square().mean((1, 2))


def counted(codes: Tensor, masks: Tensor, entries: int) -> Tensor:
    """How many masked tokens have each code: (N, levels, L) codes and (N, L) masks → (N, levels, K) int64."""
    counts = torch.zeros(*codes.shape[:2], entries, dtype=torch.int64, device=codes.device)
    return counts.scatter_add_(2, codes.long(), masks[:, None].expand(-1, codes.shape[1], -1).long())


def histograms(codes: Tensor, masks: Tensor, entries: int) -> Tensor:
    """Q: counts over the number of masked tokens (decision L-6), float32."""
    return counted(codes, masks, entries).float() / masks.sum(1).view(-1, 1, 1)


def histogram_distance(logits: Tensor, truth: Tensor) -> Tensor:
    """Σ over levels and codes of |softmax(logits) - Q|: (N, levels, K) → (N,), from 0 to twice the levels (§6.3)."""
    return (torch.softmax(logits.float(), -1) - truth).abs().sum((1, 2))
