"""Small maps in, small maps out: what detectors do between the large kernels and the score. The twins are csrc/cuda/tails.cu.

On the CPU numpy is fast enough for some hundred to some thousand values, so these are meaning and implementation in one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def take_rows(table: Floats, codes: NDArray[np.uint16], *, out: Floats) -> None:
    """Fill out (N, width) with row codes[i] of table (entries, width); codes beyond it take the last row."""
    np.take(table, codes, axis=0, out=out, mode="clip")  # "raise" would copy


def modulate(error: Floats, divergence: Floats, *, from_largest: bool, out: Floats) -> None:
    """Fill out with error ⊙ (m - softmax(-divergence)), m = the largest share if `from_largest`, else 1 (methods card §5.6, F-2).

    error, out: as many values as divergence (L,), in any shape.
    """
    odds = np.exp(divergence.min() - divergence)
    share = (odds / odds.sum()).reshape(error.shape)
    np.multiply(error, (share.max() if from_largest else 1.0) - share, out=out)


def larger_of_regions(fine: Floats, coarse: Floats, *, scales: tuple[float, float], out: Floats) -> None:
    """Fill out (side, side) with the larger of a cell's scaled distance and that of its region of 2 × 2 cells.

    fine: (side, side), side even; coarse: (side / 2, side / 2). (Masked ridge, ours.)
    """
    half = len(coarse)
    regions = np.multiply(coarse, scales[1])
    np.multiply(fine, scales[0], out=out)
    by_region = out.reshape(half, 2, half, 2)
    np.maximum(by_region, regions[:, None, :, None], out=by_region)


def mask_maps(
    distances: Floats,
    scores: Floats,
    *,
    channels: int,
    means: NDArray[np.floating],
    scales: NDArray[np.floating],
    shares: NDArray[np.floating],
    roots: Floats,
    heat: Floats,
    mean_deviation: Floats,
) -> None:
    """LADMIM's maps before they are enlarged (methods card §6.5), decision L-8.

    distances: (side, side), mean squares over `channels`, whose sums have the square roots `roots`. scores: (M,), one for each mask, whose
    deviations (score - mean) * scale have the mean `mean_deviation` (1,); `heat` (side, side) shows to each token its shares (M, tokens)
    of them.
    """
    deviations = (scores - means) * scales
    np.sqrt(distances * channels, out=roots)
    heat.ravel()[:] = deviations @ shares
    mean_deviation[0] = deviations.mean()


def join_branches(
    peak: float,
    mean_deviation: Floats,
    *,
    scale: tuple[float, float],
    offset: tuple[float, float],
    drawn_offset: tuple[float, float],
    scores: NDArray[np.float64],
    constants: Floats,
    most: Floats,
) -> None:
    """LADMIM's scores and how its branches are drawn: structural first, logical second (decision L-8).

    scores (3,): total, structural, logical, each branch scale * raw + offset of `peak` and `mean_deviation`. The stronger branch is drawn
    with the other's score added where that is positive: constants (2,), for `project_maps`, and most (2,), what no place exceeds.
    """
    structural, logical = scale[0] * peak + offset[0], scale[1] * float(mean_deviation[0]) + offset[1]
    stronger = structural >= logical
    added = np.array([max(logical, 0.0) if stronger else 0.0, 0.0 if stronger else max(structural, 0.0)])
    scores[:] = structural + logical, structural, logical
    constants[:] = drawn_offset + added
    most[:] = scores[1:] + added


def larger_capped(first: Floats, second: Floats, most: Floats, *, out: Floats) -> None:
    """Fill out with the larger one of two maps, after each was capped by its own of `most` (2,); the maps may be capped in place."""
    np.minimum(first, most[0], out=first)
    np.minimum(second, most[1], out=second)
    np.maximum(first, second, out=out)
