"""Area under the receiver operating characteristic, for images and for pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lad_edge.errors import DataError
from lad_edge.metrics.maps import ordered_bits

_BINS = 1 << 16  # of the upper half of the float32 bits: 7 mantissa bits, under 1 % of a score per bin


def auroc(good: ArrayLike, anomalous: ArrayLike) -> float:
    """Probability that an anomalous score exceeds a good one, ties counting half (rank statistic, methods card §12.1).

    Raises DataError if a class is empty or a score is not finite.
    """
    return float(share_below(checked(good, "good"), checked(anomalous, "anomalous")).mean())


def share_below(others: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,): for each of `own` (m,) the share of `others` (n,) below it, ties counting half: its placement among them."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, own, side="left")
    not_above = np.searchsorted(ordered, own, side="right")
    shares: NDArray[np.float64] = (below + not_above) / (2 * len(others))
    return shares


def roc_curve(good: ArrayLike, anomalous: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates over all thresholds, strict `>`, from (0, 0) to (1, 1)."""
    negatives, positives = np.sort(checked(good, "good")), np.sort(checked(anomalous, "anomalous"))
    thresholds = np.unique(np.concatenate([negatives, positives]))[::-1]
    rates = [1 - np.searchsorted(side, thresholds, side="right") / len(side) for side in (negatives, positives)]
    return np.concatenate([rates[0], [1.0]]), np.concatenate([rates[1], [1.0]])


class PixelAuroc:
    """Pixel AUROC over any number of maps in constant memory.

    Counts per class in bins of the order-preserving upper 16 bits of the float32 value; within a bin ties count half, so the
    result differs from the exact one by less than half the share of pairs that fall into one bin.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((2, _BINS), np.int64)

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Count one map (H, W) with its mask (H, W), True where anomalous. Raises DataError for other shapes or non-finite values."""
        if anomaly_map.shape != mask.shape:
            raise DataError(
                f"pixel AUROC: the map is {anomaly_map.shape}, the mask {mask.shape}; expected the same size"
            )
        if not np.isfinite(anomaly_map).all():
            raise DataError("pixel AUROC: the anomaly map holds NaN or Inf")
        bins = _bins(anomaly_map)
        self.counts[0] += np.bincount(bins[~mask.ravel()], minlength=_BINS)
        self.counts[1] += np.bincount(bins[mask.ravel()], minlength=_BINS)

    def value(self) -> float:
        """The AUROC of all pixels added. Raises DataError while a class is empty."""
        negatives, positives = self.counts
        if not negatives.sum() or not positives.sum():
            raise DataError("pixel AUROC needs anomalous and good pixels; the masks show only one kind")
        below = np.cumsum(negatives) - negatives
        pairs = float(negatives.sum()) * float(positives.sum())
        return float((positives.astype(np.float64) * (below + negatives / 2)).sum() / pairs)


def _bins(values: NDArray[np.float32]) -> NDArray[np.intp]:
    """The upper half of the bits."""
    bins: NDArray[np.intp] = (ordered_bits(values) >> np.uint32(16)).astype(np.intp)
    return bins


def checked(scores: ArrayLike, name: str) -> NDArray[np.float64]:
    """Flat, for a computation on the order of scores. Raises DataError if there is none, or one that is not finite."""
    values = np.asarray(scores, np.float64).ravel()
    if not len(values):
        raise DataError(f"AUROC needs {name} images; there are none")
    if not np.isfinite(values).all():
        raise DataError(
            f"AUROC: {int((~np.isfinite(values)).sum())} of the {name} scores are NaN or Inf; the engine or the training is broken"
        )
    return values
