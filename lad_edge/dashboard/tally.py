"""Results of one camera go in; counts per shift, the latency histogram and the last scores come out. Its memory never grows."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lad_edge.stream.stats import Histogram
from lad_edge.values import Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lad_edge.values import Result

SHIFT_HOURS = (6, 14, 22)
_SHIFTS = 3
_POINTS = 240
_DAY_S = 86400
_LOWEST_MS, _DECADES, _BARS_PER_DECADE = 0.1, 5, 8


@dataclass(frozen=True)
class Entry:
    """What is counted of a result. Times in ns, utc_ns is a label; latency_ms: from capture to verdict, None when nothing was judged."""

    seq: int
    verdict: Verdict
    reasons: tuple[str, ...]
    score: float | None
    threshold: float | None
    p_value: float | None
    utc_ns: int
    latency_ms: float | None


def entry_of(result: Result) -> Entry:
    """Of a result that was written at this moment."""
    judged = result.score is not None or Reason.DEADLINE in result.reasons
    latency_ms = (time.monotonic_ns() - result.captured_ns) / 1e6 if judged else None
    reasons = tuple(reason.value for reason in result.reasons)
    return Entry(
        seq=result.seq,
        verdict=result.verdict,
        reasons=reasons,
        score=result.score,
        threshold=result.threshold,
        p_value=result.p_value,
        utc_ns=result.utc_ns,
        latency_ms=latency_ms,
    )


class Tally:
    """Only the feed's thread calls it."""

    def __init__(self, shift_hours: Sequence[int] = SHIFT_HOURS) -> None:
        """shift_hours: when shifts begin, in the local time of this box."""
        self.shift_hours = sorted(shift_hours)
        self.verdicts: Counter[str] = Counter(dict.fromkeys((verdict.value for verdict in Verdict), 0))
        self.reasons: Counter[str] = Counter()
        self.latency = Histogram()
        self._bars = [0] * (_DECADES * _BARS_PER_DECADE)
        self.scores: deque[tuple[int, str, float | None, float | None]] = deque(maxlen=_POINTS)
        self.views: deque[tuple[int, float, float]] = deque(maxlen=_POINTS)
        self.threshold: float | None = None
        self._shifts: dict[int, Counter[str]] = {}

    def add(self, entry: Entry) -> None:
        """Counts one result."""
        self.verdicts[entry.verdict.value] += 1
        self.reasons.update(entry.reasons)
        self._shift_at(entry.utc_ns / 1e9)[entry.verdict.value] += 1
        self.scores.append((entry.seq, entry.verdict.value, entry.score, entry.p_value))
        self.threshold = entry.threshold if entry.threshold is not None else self.threshold
        if entry.latency_ms is not None:
            self.latency.add(1e3 * entry.latency_ms)
            self._bars[_bar_of(entry.latency_ms)] += 1

    def see(self, seq: int, mean_grey: float, sharpness: float) -> None:
        """What the picture of a part looked like (views/quality.py)."""
        self.views.append((seq, round(mean_grey, 2), round(sharpness, 4)))

    def as_dict(self) -> dict[str, Any]:
        """JSON values; shifts with the newest first, `begin_ms` in UTC."""
        return {
            "verdicts": dict(self.verdicts),
            "reasons": dict(self.reasons),
            "shifts": [{"begin_ms": 1000 * begin, **self._shifts[begin]} for begin in sorted(self._shifts)[::-1]],
            "latency": self._latency(),
            "scores": list(self.scores),
            "threshold": self.threshold,
            "views": list(self.views),
        }

    def _shift_at(self, utc_s: float) -> Counter[str]:
        begin = shift_begin(utc_s, self.shift_hours)
        if begin not in self._shifts:
            self._shifts[begin] = Counter({verdict.value: 0 for verdict in Verdict})
            for old in sorted(self._shifts)[:-_SHIFTS]:
                del self._shifts[old]
        return self._shifts.get(begin, Counter())  # a clock that was set back far counts for no shift

    def _latency(self) -> dict[str, Any] | None:
        """`edges_ms` of the bars and their `counts`, from the first bar that is not empty to the last one."""
        if not self.latency.count:
            return None
        used = [index for index, count in enumerate(self._bars) if count]
        summary_ms = {name: round(value / 1e3, 3) for name, value in self.latency.summary().items()}
        edges_ms = [round(_LOWEST_MS * 10 ** (step / _BARS_PER_DECADE), 4) for step in range(used[0], used[-1] + 2)]
        counts = self._bars[used[0] : used[-1] + 1]
        return {"edges_ms": edges_ms, "counts": counts, "count": self.latency.count, **summary_ms}


def _bar_of(latency_ms: float) -> int:
    """Index of the bar; the first and the last one hold what lies beyond."""
    steps = _BARS_PER_DECADE * math.log10(max(latency_ms, _LOWEST_MS) / _LOWEST_MS)
    return min(int(steps), _DECADES * _BARS_PER_DECADE - 1)


def shift_begin(utc_s: float, hours: Sequence[int]) -> int:
    """When the shift began that runs at this moment, in seconds UTC. hours: rising, in the local time of this box."""
    for day_s in (0, _DAY_S):
        day = time.localtime(utc_s - day_s)
        begins = [int(time.mktime((*day[:3], hour, 0, 0, 0, 0, -1))) for hour in hours]
        if passed := [begin for begin in begins if begin <= utc_s]:
            return passed[-1]
    return begins[-1]
