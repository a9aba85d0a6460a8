"""Results go in, counts and latency percentiles come out; the memory it takes never grows."""

from __future__ import annotations

import math
from array import array
from collections import Counter

from lad_edge.values import Result, Verdict

_LOWEST_US, _HIGHEST_US, _STEP = 1.0, 1e9, 1.01
_LOG_STEP = math.log(_STEP)
_BINS = int(math.log(_HIGHEST_US / _LOWEST_US) / _LOG_STEP) + 2
_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Histogram:
    """Durations in µs in bins that are 1 % wide: percentiles are right to 1 %, minimum and maximum exactly."""

    def __init__(self) -> None:
        self._bins = array("Q", bytes(8 * _BINS))
        self.count, self.total_us = 0, 0.0
        self.min, self.max = math.inf, -math.inf

    def add(self, value_us: float) -> None:
        """Counts one duration."""
        clipped = min(max(value_us, _LOWEST_US), _HIGHEST_US)
        self._bins[int(math.log(clipped / _LOWEST_US) / _LOG_STEP)] += 1
        self.count, self.total_us = self.count + 1, self.total_us + value_us
        self.min, self.max = min(self.min, value_us), max(self.max, value_us)

    def at_most(self, value_us: float) -> int:
        """How many durations lie in the bins up to that value; right to the 1 % of a bin."""
        return sum(self._bins[: max(0, math.ceil(math.log(value_us / _LOWEST_US) / _LOG_STEP))])

    def percentile(self, share: float) -> float:
        """The value in µs that `share` of all durations do not exceed (nearest rank). NaN when nothing was added."""
        rank, seen = max(1, math.ceil(share * self.count)), 0
        for index, count in enumerate(self._bins):
            seen += count
            if seen >= rank:
                middle = _LOWEST_US * math.exp(_LOG_STEP * (index + 0.5))
                return min(max(middle, self.min), self.max)
        return math.nan

    def summary(self) -> dict[str, float]:
        """p50, p95, p99 and max in µs."""
        return {**{name: self.percentile(share) for name, share in _SHARES.items()}, "max": self.max}


class Stats:
    """Counts per verdict and per reason, and one histogram for each stage."""

    def __init__(self) -> None:
        self.verdicts: Counter[Verdict] = Counter(dict.fromkeys(Verdict, 0))
        self.reasons: Counter[str] = Counter()
        self.late: Counter[Verdict] = Counter()  # what came after its deadline: nobody was shown it
        self.stages: dict[str, Histogram] = {}

    @property
    def parts(self) -> int:
        """Number of records so far."""
        return sum(self.verdicts.values())

    def add(self, result: Result) -> None:
        """Counts one result."""
        self.verdicts[result.verdict] += 1
        for reason in result.reasons:
            self.reasons[reason.value] += 1
        if result.score is not None:  # times of parts that were never scored would flatter the percentiles
            for stage, duration_us in result.stages_us.items():
                self._histogram(stage).add(duration_us)

    def add_late(self, result: Result) -> None:
        """Counts one result whose part was UNKNOWN by then."""
        self.late[result.verdict] += 1

    def as_dict(self, dropped: int) -> dict[str, object]:
        """The summary as JSON values: counts, reasons, dropped and late ones, percentiles per stage in µs."""
        return {
            "parts": self.parts,
            "verdicts": {verdict.value: count for verdict, count in self.verdicts.items()},
            "reasons": dict(sorted(self.reasons.items())),
            "dropped": dropped,
            "late": {verdict.value: count for verdict, count in self.late.items()},
            "stages_us": {
                name: {key: round(value, 1) for key, value in histogram.summary().items()}
                for name, histogram in self.stages.items()
            },
        }

    def counts(self) -> str:
        """Parts and verdicts, for a person."""
        return f"{self.parts} parts: " + ", ".join(
            f"{count} {verdict.value}" for verdict, count in self.verdicts.items()
        )

    def table(self, dropped: int) -> str:
        """The summary for a person."""
        late = ", ".join(f"{count} {verdict.value}" for verdict, count in self.late.items())
        lines = [f"{self.counts()}; {dropped} dropped" + (f"; came too late: {late}" if late else "")]
        lines += [f"  {count:6d}  {reason}" for reason, count in sorted(self.reasons.items())]
        return "\n".join([*lines, *self._stage_lines()])

    def _stage_lines(self) -> list[str]:
        if not self.stages:
            return []
        lines = [f"  {'stage (ms)':<12}" + "".join(f"{name:>10}" for name in (*_SHARES, "max"))]
        for stage, histogram in self.stages.items():
            lines.append(f"  {stage:<12}" + "".join(f"{us / 1e3:10.3f}" for us in histogram.summary().values()))
        return lines

    def _histogram(self, stage: str) -> Histogram:
        if stage not in self.stages:
            self.stages[stage] = Histogram()
        return self.stages[stage]
