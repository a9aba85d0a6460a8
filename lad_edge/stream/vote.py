"""Results on the pictures of one part go in, the result of the part comes out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lad_edge.values import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lad_edge.values import Result

RULES = ("any", "majority")


@dataclass(frozen=True)
class Vote:
    """any: one NG makes the part NG, and OK needs every picture. majority: half of the pictures make it NG, more than half OK.

    Anything else is UNKNOWN. The record is that of the worst picture among those that have the part's verdict.
    """

    rule: str = "any"

    def __call__(self, results: Sequence[Result]) -> tuple[int, Result]:
        """Which picture stands for the part, and its result."""
        verdict = self._verdict(Counter(result.verdict for result in results), len(results))
        agreeing = [index for index, result in enumerate(results) if result.verdict is verdict]
        chosen = max(agreeing, key=lambda index: _badness(results[index]))
        return chosen, results[chosen]

    def _verdict(self, counts: Counter[Verdict], pictures: int) -> Verdict:
        least_ng, least_ok = (1, pictures) if self.rule == "any" else ((pictures + 1) // 2, pictures // 2 + 1)
        if counts[Verdict.NG] >= least_ng:
            return Verdict.NG
        return Verdict.OK if counts[Verdict.OK] >= least_ok else Verdict.UNKNOWN


def _badness(result: Result) -> float:
    return float("-inf") if result.score is None else result.score
