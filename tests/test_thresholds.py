"""Threshold policies: the finite-sample statement holds, and nothing is weakened silently."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lad_edge.errors import DataError, UsageError
from lad_edge.thresholds import choose, conformal, fixed, parse_policy, quantile


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("conformal:1%", ("conformal", 0.01)),
        ("conformal:0.1%", ("conformal", 0.001)),
        ("quantile:0.995", ("quantile", 0.995)),
        ("fixed:-0.12", ("fixed", -0.12)),
    ],
)
def test_a_policy_is_parsed_exactly(text: str, parsed: tuple[str, float]) -> None:
    assert parse_policy(text) == parsed


@pytest.mark.parametrize(
    "text",
    ["", "conformal", "conformal:", "conformal:0", "conformal:1", "conformal:x%", "max:1", "fixed:nan", "fixed:inf"],
)
def test_a_policy_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_policy(text)


ROOM = 0.098  # a thousandth of the spread of 1…99


def test_conformal_lies_just_above_the_smallest_score_that_keeps_the_promise() -> None:
    scores = np.arange(1.0, 100.0)  # n = 99
    assert conformal(scores, 0.01).value == pytest.approx(99 + ROOM)
    assert conformal(scores, 0.05).value == pytest.approx(95 + ROOM)
    assert conformal(scores, 0.05).statement == "≤ 5 % of good parts are rejected, n = 99"


@given(st.integers(1, 400), st.integers(1, 99))
def test_conformal_rejects_at_most_alpha_of_exchangeable_parts(n: int, percent: int) -> None:
    """Leave one of n + 1 ranks out in turn: the share of ranks above the threshold is the exact false-reject rate."""
    alpha = Fraction(percent, 100)
    if (n + 1) * alpha < 1:
        with pytest.raises(DataError):
            conformal(np.arange(n), float(alpha))
        return
    ranks, rejected = np.arange(n + 1), 0
    for left_out in ranks:
        threshold = conformal(np.delete(ranks, left_out), float(alpha)).value
        rejected += left_out > threshold
    assert Fraction(int(rejected), n + 1) <= alpha


def test_too_few_images_are_an_error_whose_advice_works() -> None:
    scores = np.arange(54.0)
    with pytest.raises(DataError, match="99 good images; came 54, 45 are missing") as caught:
        conformal(scores, 0.01)
    advised = re.search(r"--policy (\S+)", str(caught.value))
    assert advised is not None
    assert choose(scores, *parse_policy(advised.group(1))).value == pytest.approx(53, rel=1e-2)


def test_quantile_claims_no_guarantee() -> None:
    threshold = quantile([0.0, 1.0, 2.0, 3.0], 0.5)
    assert threshold.value == pytest.approx(1.503)
    assert "no guarantee" in threshold.statement


def test_fixed_says_how_many_good_parts_pass() -> None:
    assert "3 of n = 4 good parts" in fixed([0.0, 1.0, 2.0, 3.0], 2.0).statement


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_scores_that_are_no_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(DataError):
        quantile(scores, 0.5)
