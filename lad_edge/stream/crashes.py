"""Results go in; whether the engine has failed so often in a row that it has to be opened again comes out (reliability.md V8, F16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lad_edge.errors import EngineError
from lad_edge.values import Reason

if TYPE_CHECKING:
    from lad_edge.values import Result

IN_A_ROW = 3  # parts; one alone may be its own fault
MOST_TRIES = 3
_CRASHES = frozenset({Reason.ENGINE_CRASH, Reason.GPU_FAULT, Reason.GPU_MEMORY})


class Crashes:
    """Of the engine of one line; a part that it judges ends the row."""

    def __init__(self) -> None:
        self._in_a_row = self._tries = 0

    def are_too_many(self, result: Result) -> bool:
        """After each part: whether it is time to open the engine again. Raises EngineError when that has not helped several times."""
        if _CRASHES.isdisjoint(result.reasons):
            if result.score is not None:
                self._in_a_row = self._tries = 0
            return False
        self._in_a_row += 1
        if self._in_a_row < IN_A_ROW:
            return False
        if self._tries == MOST_TRIES:
            raise EngineError(f"the engine fails although it was opened again {MOST_TRIES} times: {result.detail}")
        self._in_a_row, self._tries = 0, self._tries + 1
        return True
