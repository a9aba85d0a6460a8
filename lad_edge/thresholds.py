"""Sorted scores of good parts and a policy go in; a threshold with the statement that it honestly carries comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

_ENVELOPE_SLACK = 1e4  # a score this many threshold distances beyond the good ones is an engine fault, not a part
POLICY_HELP = "conformal:1% | quantile:0.995 | fixed:0.12"


@dataclass(frozen=True)
class Threshold:
    """A part is OK when its score is at or under `value`, which rests on n good scores; statement: what may be claimed."""

    value: float
    policy: str  # "conformal", "quantile" or "fixed"
    parameter: float  # alpha, the quantile's level, or the value itself
    n: int
    statement: str


def parse_policy(text: str) -> tuple[str, float]:
    """`conformal:1%` → ("conformal", 0.01). Raises UsageError that shows the accepted forms."""
    name, colon, number = text.partition(":")
    if name not in _POLICIES or not colon:
        raise UsageError(f"a policy is written {POLICY_HELP}; came '{text}'")
    value = _number(number, text)
    if name != "fixed" and not 0.0 < value < 1.0:
        raise UsageError(f"{name} needs a share between 0 and 1, or a percentage such as {name}:1%; came '{text}'")
    return name, value


def choose(scores: ArrayLike, policy: str, parameter: float) -> Threshold:
    """Applies a policy by name to the scores of good validation images; see the function of that name."""
    if policy not in _POLICIES:
        raise UsageError(f"a policy is one of {', '.join(_POLICIES)}; came '{policy}'")
    return _POLICIES[policy](scores, parameter)


def envelope(scores: NDArray[np.float64], threshold: float) -> tuple[float, float]:
    """The lowest and the highest score that a sound engine may give, from those of good parts: far beyond any part."""
    reach = _ENVELOPE_SLACK * max(abs(threshold), float(np.ptp(scores)), 1e-6)
    return float(scores.min()) - reach, float(scores.max()) + reach


def far_out(scores: NDArray[np.float64]) -> list[int]:
    """Where scores lie beyond Tukey's outer fence, three times the distance of the quartiles above the third; the highest first."""
    low, high = np.quantile(scores, (0.25, 0.75))
    beyond = np.flatnonzero(scores > high + 3 * (high - low))
    return [int(index) for index in beyond[np.argsort(-scores[beyond])]]


def conformal(scores: ArrayLike, alpha: float) -> Threshold:
    """A threshold that rejects at most `alpha` of the good parts to come, whatever their distribution, and hardly more.

    Split conformal prediction (Vovk et al., 2005): for n exchangeable good scores and k = ⌈(n+1)(1−α)⌉, a further
    good score exceeds the k-th smallest with probability ≤ 1 − k/(n+1) ≤ α. Raises DataError when n is too small for α.
    """
    ordered = _sorted_finite(scores)
    n, share = len(ordered), Fraction(repr(float(alpha)))
    k = math.ceil((n + 1) * (1 - share))
    if k > n:
        raise DataError(_too_few(n, share))
    statement = f"≤ {_percent(share)} of good parts are rejected, n = {n}"
    return Threshold(float(ordered[k - 1]) + _rounding_room(ordered), "conformal", float(alpha), n, statement)


def quantile(scores: ArrayLike, level: float) -> Threshold:
    """The empirical quantile of the good scores, linearly interpolated; it carries no finite-sample guarantee."""
    ordered = _sorted_finite(scores)
    value = float(np.quantile(ordered, level)) + _rounding_room(ordered)
    statement = f"the {level:g} quantile of n = {len(ordered)} good parts; no guarantee for parts to come"
    return Threshold(value, "quantile", float(level), len(ordered), statement)


def fixed(scores: ArrayLike, value: float) -> Threshold:
    """A threshold set by hand; the statement says how many of the good scores stay at or under it."""
    ordered, value = _sorted_finite(scores), float(value)
    if not math.isfinite(value):
        raise UsageError(f"a fixed threshold must be a finite number; came {value}")
    passed = int(np.searchsorted(ordered, value, side="right"))
    statement = f"set by hand; {passed} of n = {len(ordered)} good parts stay at or under it"
    return Threshold(value, "fixed", value, len(ordered), statement)


_POLICIES: dict[str, Callable[[ArrayLike, float], Threshold]] = {
    "conformal": conformal,
    "quantile": quantile,
    "fixed": fixed,
}


def _number(text: str, whole: str) -> float:
    try:
        value = Fraction(text.removesuffix("%"))
    except (ValueError, ZeroDivisionError) as exc:
        raise UsageError(f"a policy is written {POLICY_HELP}; '{text}' in '{whole}' is not a number") from exc
    return float(value / 100) if text.endswith("%") else float(value)


def _sorted_finite(scores: ArrayLike) -> NDArray[np.float64]:
    ordered = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    if ordered.size == 0:
        raise DataError("a threshold needs the scores of good validation images; there are none")
    if not np.isfinite(ordered).all():
        raise DataError("the scores of the good validation images must be finite; NaN or Inf came: calibrate again")
    return ordered


def _rounding_room(ordered: NDArray[np.float64]) -> float:
    """A thousandth of the scores' spread above the image that sets the threshold.

    On the score itself, the last bit of another library or processor would decide the verdict on that image. A higher
    threshold keeps every promise of the lower one.
    """
    return 1e-3 * float(ordered[-1] - ordered[0])


def _too_few(n: int, share: Fraction) -> str:
    needed = math.ceil(1 / share) - 1
    reachable = Fraction(math.ceil(Fraction(10_000, n + 1)), 10_000)  # rounded up: the command below must work
    advice = f"use --policy conformal:{_percent(reachable).replace(' ', '')}" if reachable < 1 else "add images"
    return (
        f"a false-reject rate of {_percent(share)} needs the scores of {needed} good images; came {n}, "
        f"{needed - n} are missing. Reachable with these: {_percent(reachable)}: {advice}"
    )


def _percent(share: Fraction) -> str:
    return f"{float(share * 100):.6g} %"
