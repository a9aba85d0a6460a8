"""Results go in, what a PLC is shown of them comes out: UNKNOWN may be NG for a station that can only reject, and never OK."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lad_edge.values import Reason, Verdict

if TYPE_CHECKING:
    from lad_edge.values import Result

HOLD, REJECT = ACTIONS = ("hold", "reject")  # the signal UNKNOWN, for a station that can hold a part; the signal NG


@dataclass(frozen=True)
class UnknownPolicy:
    """One of ACTIONS each. on_late: for parts whose deadline has passed, None = as all others. Records stay as they are."""

    on_unknown: str = HOLD
    on_late: str | None = None

    def __call__(self, result: Result) -> Result:
        """The result as it is shown; its reason stays."""
        late = Reason.DEADLINE in result.reasons
        action = self.on_late if late and self.on_late is not None else self.on_unknown
        rejected = result.verdict is Verdict.UNKNOWN and action == REJECT
        return replace(result, verdict=Verdict.NG) if rejected else result
