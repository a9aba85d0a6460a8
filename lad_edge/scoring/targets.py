"""Predictions of hidden tokens against what is there: outputs of a graph and buffers of a frame go in, a score for each mask comes out.

The score of a histogram is the paper's (methods card §6.5). The other targets of its Table 8 are scored by the loss that they were
trained with, which is our decision: the higher, the less the hidden tokens are what the visible ones let expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lad_edge.errors import EngineError
from lad_edge.kernels import masked_histogram_score, pack_masks

Floats = NDArray[np.float32]
PATCH = 8  # px on a side of what a token stands for: the stride of the tokens


@dataclass(frozen=True)
class Shown:
    """What a frame shows, buffers that each frame overwrites.

    pixels: (1, 3, H, W), normalised; features: (1, C, side, side); codes: (levels, tokens) uint16, deepest level first.
    """

    pixels: Floats
    features: Floats
    codes: NDArray[np.uint16]


class Target(Protocol):
    """predicted: what the graph fills, for M masks."""

    predicted: Floats

    def score(self, out: Floats) -> int:
        """Fill `out` (M,) with how far each prediction is off; returns how many values are not finite."""


class HistogramTarget:
    """Shares of codes among the hidden tokens: the sum of absolute differences, from 0 to twice the levels."""

    def __init__(self, shown: Shown, masks: NDArray[np.bool_], entries: int) -> None:
        self.codes, self.masks = shown.codes, pack_masks(masks)
        self.predicted = np.zeros((len(masks), len(shown.codes), entries), np.float32)  # logits

    def score(self, out: Floats) -> int:
        """Counted codes against predicted ones."""
        return masked_histogram_score(self.codes, self.masks, self.predicted, out)


class CodeTarget:
    """Codes of each hidden token: the negative log-likelihood of those that are there, mean over tokens, sum over levels."""

    def __init__(self, shown: Shown, masks: NDArray[np.bool_], entries: int) -> None:
        self.codes, self.hidden = shown.codes, hidden_tokens(masks)
        self.predicted = np.zeros((*self.hidden.shape, len(shown.codes), entries), np.float32)  # log-likelihoods

    def score(self, out: Floats) -> int:
        """Reads the likelihoods of the codes alone: each holds its whole distribution's normaliser, finite or not."""
        codes = self.codes.T[self.hidden]
        found = np.take_along_axis(self.predicted, codes[..., None], -1)[..., 0]
        out[:] = -found.mean(1, dtype=np.float64).sum(1)
        return int(np.count_nonzero(~np.isfinite(found)))


class TokenTarget:
    """Values of each hidden token: the mean over tokens and values of the squared error.

    values: a view of the frame's buffers, first axes those of the grid of tokens, the others of what is predicted of each.
    """

    def __init__(self, values: Floats, masks: NDArray[np.bool_]) -> None:
        self.values, self.hidden = values, hidden_tokens(masks)
        self.tokens = np.zeros(values.shape, np.float32)
        self.rows = self.tokens.reshape(masks.shape[1], -1)
        self.predicted, self.error = (np.zeros((*self.hidden.shape, self.rows.shape[1]), np.float32) for _ in range(2))

    def score(self, out: Floats) -> int:
        """Gathers the truth of each mask, and compares."""
        np.copyto(self.tokens, self.values)
        np.take(self.rows, self.hidden, axis=0, out=self.error, mode="clip")
        np.subtract(self.predicted, self.error, out=self.error)
        np.square(self.error, out=self.error)
        out[:] = self.error.mean((1, 2), dtype=np.float64)
        return int(np.count_nonzero(~np.isfinite(out)))


def feature_target(shown: Shown, masks: NDArray[np.bool_], _entries: int) -> TokenTarget:
    """Standardised features."""
    return TokenTarget(shown.features[0].transpose(1, 2, 0), masks)


def pixel_target(shown: Shown, masks: NDArray[np.bool_], _entries: int) -> TokenTarget:
    """Normalised pixels, 8×8 in the middle of what each token describes: colour, row, column."""
    side = shown.features.shape[-1]
    margin = (shown.pixels.shape[-1] - side * PATCH) // 2
    inner = shown.pixels[0, :, margin : margin + side * PATCH, margin : margin + side * PATCH]
    return TokenTarget(inner.reshape(3, side, PATCH, side, PATCH).transpose(1, 3, 0, 2, 4), masks)


TARGETS: Mapping[str, Callable[[Shown, NDArray[np.bool_], int], Target]] = {
    "histogram": HistogramTarget,
    "code": CodeTarget,
    "feature": feature_target,
    "pixel": pixel_target,
}


def open_target(name: Any, shown: Shown, masks: NDArray[np.bool_], entries: int) -> Target:
    """The target that the bundle names; masks: (M, tokens). Raises EngineError if this version does not know it."""
    if name not in TARGETS:
        raise EngineError(
            f"the detector's parameter target is {name!r}, this version knows {', '.join(TARGETS)}; "
            "install the lad-edge that exported the bundle"
        )
    return TARGETS[name](shown, masks, entries)


def hidden_tokens(masks: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(M, tokens) → (M, n): indices of the hidden tokens in reading order; masks hide equally many."""
    return np.nonzero(masks)[1].reshape(len(masks), -1)
