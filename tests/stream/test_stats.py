"""Statistics: percentiles right to 1 %, exact extremes, memory that never grows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lad_edge.stream.stats import Histogram, Stats
from lad_edge.values import Reason, Result, Verdict


@given(st.lists(st.floats(1.0, 1e8), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_right_to_one_percent(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = np.quantile(values, share, method="inverted_cdf")
    assert histogram.percentile(share) == pytest.approx(exact, rel=0.0101)
    assert histogram.max == max(values)


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e12, 5e9])
def test_values_outside_the_range_are_counted_at_its_ends(value: float) -> None:
    histogram = Histogram()
    histogram.add(value)
    assert histogram.percentile(0.5) == value == histogram.max


def test_parts_that_were_not_scored_do_not_flatter_the_times() -> None:
    stats = Stats()
    stats.add(Result(1, "a", Verdict.OK, (Reason.SCORE_WITHIN_LIMIT,), 0, 0, score=0.1, stages_us={"total": 500.0}))
    stats.add(Result(2, "b", Verdict.UNKNOWN, (Reason.DROPPED,), 0, 0, stages_us={"total": 1.0}))
    summary = stats.as_dict(dropped=1)
    assert summary["verdicts"] == {"OK": 1, "NG": 0, "UNKNOWN": 1}
    assert summary["reasons"] == {"DROPPED": 1, "SCORE_WITHIN_LIMIT": 1}
    assert summary["stages_us"]["total"]["p50"] == 500.0
    json.dumps(summary, allow_nan=False)


def test_the_table_names_counts_reasons_and_stages() -> None:
    stats = Stats()
    stats.add(Result(1, "a", Verdict.OK, (Reason.SCORE_WITHIN_LIMIT,), 0, 0, score=0.1, stages_us={"total": 1500.0}))
    table = stats.table(dropped=3)
    assert "1 parts: 1 OK, 0 NG, 0 UNKNOWN; 3 dropped" in table
    assert "1  SCORE_WITHIN_LIMIT" in table
    assert "1.500" in table
