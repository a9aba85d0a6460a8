"""The engine of a line and what it says go in; the same engine, or one that was opened anew because it failed, comes out.

It fails when it cannot judge part after part, or when a golden frame, which goes through it once an hour, has another score than the bundle
states: an engine that always says the same is found by nothing else (reliability.md V8, F16, F21, §11).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lad_edge.errors import EngineError, ParityError
from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.inspector import Inspector
    from lad_edge.values import Result

IN_A_ROW = 3  # parts; one alone may be its own fault
MOST_TRIES = 3
_CRASHES = frozenset({Reason.ENGINE_CRASH, Reason.GPU_FAULT, Reason.GPU_MEMORY})


class Upkeep:
    """Between two parts, on the thread that judges them. Where opening anew does not help, the line ends for its supervisor to start it.

    CUDA loses its context with the whole process, and a file that is read again may be whole where its copy in memory is not.
    """

    def __init__(self, challenge_s: float, notice: Callable[[str], None]) -> None:
        """challenge_s: from one golden frame to the next; notice: takes a line for a person."""
        self._challenge_s, self._notice = challenge_s, notice
        self._challenged_s = time.monotonic()
        self._in_a_row = self._tries = 0

    def after(self, inspector: Inspector, result: Result) -> Inspector:
        """The engine for the part after this one. Raises EngineError, ParityError."""
        if _CRASHES.isdisjoint(result.reasons):
            if result.score is not None:
                self._in_a_row = self._tries = 0
            return inspector
        self._in_a_row += 1
        if self._in_a_row < IN_A_ROW:
            return inspector
        if self._tries == MOST_TRIES:
            raise EngineError(f"the engine fails although it was opened again {MOST_TRIES} times: {result.detail}")
        self._in_a_row, self._tries = 0, self._tries + 1
        return self._opened_again(inspector, f"the engine failed on part after part: {result.detail}")

    def challenge(self, inspector: Inspector, *, idle: bool) -> Inspector:
        """The engine that has given a golden frame its score, if it is time for that. Raises EngineError, ParityError.

        idle: no part waits for the engine. A line that never is, is challenged half as often: it costs the next part the time of one.
        """
        due_s = self._challenge_s if idle else 2 * self._challenge_s
        if time.monotonic() - self._challenged_s < due_s:
            return inspector
        self._challenged_s = time.monotonic()
        try:
            inspector.challenge()
        except (EngineError, ParityError) as exc:
            return self._opened_again(inspector, str(exc))
        return inspector

    def _opened_again(self, inspector: Inspector, why: str) -> Inspector:
        self._notice(f"{why}; it is opened again")
        following = inspector.open_again()
        self._notice("the engine is open again")
        return following
