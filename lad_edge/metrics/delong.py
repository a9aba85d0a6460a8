"""How sure the difference of two AUROCs is when both engines judged the same images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lad_edge.metrics.auroc import checked, share_below

_TWO_SIDED_95 = 1.959964  # standard deviations of a normal distribution


class Difference(NamedTuple):
    """AUROC of the second engine minus that of the first. interval: 95 %, None where the images say nothing about it."""

    value: float
    interval: tuple[float, float] | None


def auroc_difference(good: ArrayLike, anomalous: ArrayLike) -> Difference:
    """good: (2, n), anomalous: (2, m), scores of the same images by two engines; only their order by one engine counts.

    Interval: normal, with the variance of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988) for curves of the same images, here
    straight from the differences of the placements. None for fewer than two images of a kind, and where both engines place every image
    alike: a width of zero would say that the engines are equal, while only these images are too easy. Raises DataError as `auroc`.
    """
    (good_a, good_b), (anomalous_a, anomalous_b) = (np.asarray(scores, np.float64) for scores in (good, anomalous))
    first = checked(good_a, "good"), checked(anomalous_a, "anomalous")
    second = checked(good_b, "good"), checked(anomalous_b, "anomalous")
    of_anomalous = share_below(*second) - share_below(*first)
    of_good = share_below(*first[::-1]) - share_below(*second[::-1])
    value = float(of_anomalous.mean())
    if min(len(of_good), len(of_anomalous)) < 2:
        return Difference(value, None)
    variance = _variance_of_mean(of_good) + _variance_of_mean(of_anomalous)
    reach = _TWO_SIDED_95 * float(np.sqrt(variance))
    return Difference(value, (max(value - reach, -1.0), min(value + reach, 1.0)) if variance > 0 else None)


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) / len(values)
