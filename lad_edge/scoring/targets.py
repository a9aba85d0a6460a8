"""Predictions of hidden tokens against what is there: outputs of a graph and arrays of a frame go in, a score for each mask comes out.

The score of a histogram is the paper's (methods card §6.5). The other targets of its Table 8 are scored by the loss that they were
trained with, which is our decision: the higher, the less the hidden tokens are what the visible ones let expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lad_edge.errors import EngineError
from lad_edge.kernels import pack_masks
from lad_edge.scoring.line import Array

if TYPE_CHECKING:
    from lad_edge.scoring.line import Line

Floats = NDArray[np.float32]
PATCH = 8  # px on a side of what a token stands for: the stride of the tokens


@dataclass(frozen=True)
class Shown:
    """What a frame shows, buffers that each frame overwrites.

    pixels: (1, 3, H, W), normalised; features: (1, C, side, side); codes: (levels, tokens) uint16, deepest level first.
    """

    pixels: Array
    features: Array
    codes: Array


class Target(Protocol):
    """predicted: what the graph fills, for M masks."""

    predicted: Array

    def score(self, out: Array) -> None:
        """Name the steps that fill `out` (M,) with how far each prediction is off."""


class HistogramTarget:
    """Shares of codes among the hidden tokens: the sum of absolute differences, from 0 to twice the levels."""

    def __init__(self, line: Line, shown: Shown, masks: NDArray[np.bool_], entries: int) -> None:
        self.line, self.codes, self.masks = line, shown.codes, line.table(pack_masks(masks))
        self.predicted = line.array(len(masks), shown.codes.shape[0], entries)  # logits

    def score(self, out: Array) -> None:
        """Counted codes against predicted ones."""
        self.line.masked_histogram_score(self.codes, self.masks, self.predicted, out=out)


class CodeTarget:
    """Codes of each hidden token: the negative log-likelihood of those that are there, mean over tokens, sum over levels."""

    def __init__(self, line: Line, shown: Shown, masks: NDArray[np.bool_], entries: int) -> None:
        self.line, self.codes, self.hidden = line, shown.codes, hidden_tokens(masks)
        self.predicted = line.array(*self.hidden.shape, shown.codes.shape[0], entries)  # log-likelihoods

    def score(self, out: Array) -> None:
        """Reads the likelihoods of the codes alone: each holds its whole distribution's normaliser, finite or not."""
        self.line.on_host("the target 'code'", partial(self._compare, out))

    def _compare(self, out: Floats) -> int:
        codes = self.codes.T[self.hidden]
        found = np.take_along_axis(self.predicted, codes[..., None], -1)[..., 0]
        out[:] = -found.mean(1, dtype=np.float64).sum(1)
        return int(np.count_nonzero(~np.isfinite(found)))


class TokenTarget:
    """Values of each hidden token: the mean over tokens and values of the squared error.

    shape: of the grid of tokens and of what is predicted of each; values: gives them of the frame, with that shape.
    """

    def __init__(
        self, line: Line, masks: NDArray[np.bool_], shape: tuple[int, ...], values: Callable[[], Floats]
    ) -> None:
        self.line, self.values, self.hidden = line, values, hidden_tokens(masks)
        self.tokens = np.zeros(shape, np.float32)
        self.rows = self.tokens.reshape(masks.shape[1], -1)
        self.predicted = line.array(*self.hidden.shape, self.rows.shape[1])
        self.error = np.zeros(self.predicted.shape, np.float32)

    def score(self, out: Array) -> None:
        """Gathers the truth of each mask, and compares."""
        self.line.on_host("a target of values", partial(self._compare, out))

    def _compare(self, out: Floats) -> int:
        np.copyto(self.tokens, self.values())
        np.take(self.rows, self.hidden, axis=0, out=self.error, mode="clip")
        np.subtract(self.predicted, self.error, out=self.error)
        np.square(self.error, out=self.error)
        out[:] = self.error.mean((1, 2), dtype=np.float64)
        return int(np.count_nonzero(~np.isfinite(out)))


def feature_target(line: Line, shown: Shown, masks: NDArray[np.bool_], _entries: int) -> TokenTarget:
    """Standardised features."""
    _, channels, side, _ = shown.features.shape
    return TokenTarget(line, masks, (side, side, channels), lambda: shown.features[0].transpose(1, 2, 0))


def pixel_target(line: Line, shown: Shown, masks: NDArray[np.bool_], _entries: int) -> TokenTarget:
    """Normalised pixels, 8×8 in the middle of what each token describes: colour, row, column."""
    side = shown.features.shape[-1]
    margin = (shown.pixels.shape[-1] - side * PATCH) // 2

    def patches() -> Floats:
        inner = shown.pixels[0, :, margin : margin + side * PATCH, margin : margin + side * PATCH]
        cut: Floats = inner.reshape(3, side, PATCH, side, PATCH).transpose(1, 3, 0, 2, 4)
        return cut

    return TokenTarget(line, masks, (side, side, 3, PATCH, PATCH), patches)


TARGETS: Mapping[str, Callable[[Any, Shown, NDArray[np.bool_], int], Target]] = {
    "histogram": HistogramTarget,
    "code": CodeTarget,
    "feature": feature_target,
    "pixel": pixel_target,
}


def open_target(name: Any, line: Line, shown: Shown, masks: NDArray[np.bool_], entries: int) -> Target:
    """The target that the bundle names; masks: (M, tokens). Raises EngineError if this version does not know it."""
    if name not in TARGETS:
        raise EngineError(
            f"the detector's parameter target is {name!r}, this version knows {', '.join(TARGETS)}; "
            "install the lad-edge that exported the bundle"
        )
    return TARGETS[name](line, shown, masks, entries)


def hidden_tokens(masks: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(M, tokens) → (M, n): indices of the hidden tokens in reading order; masks hide equally many."""
    return np.nonzero(masks)[1].reshape(len(masks), -1)
