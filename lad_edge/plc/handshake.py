"""The handshake of a vision sensor: triggers and acknowledgements go in, results as signals come out; no bus, no thread.

READY ─ TRIGGER rises ─ BUSY ─ RESULT_VALID with one of OK, NG, UNKNOWN ─ ACK rises ─ the signals fall ─ ACK falls.

OK is a token for one part, never a level: all signals of a result fall when it is acknowledged, and at the next trigger. A trigger
while not READY is counted, shown as ERROR, and its part is UNKNOWN; no result is shown before the ERROR is acknowledged, for a PLC that
looks at OK alone would take it for the part that it triggered last. A heartbeat that stands still means reject (reliability.md V3).
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lad_edge.plc.codes import REASON_CODES, HandshakeError
from lad_edge.values import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    TakePart = Callable[[str], bool]  # the name of a part → False when there is none, because the line ends

HEARTBEAT_S = 0.25  # between two beats
NO_SCORE = -(2**31)  # of a part that was not scored
_UINT32 = 2**32
_MOST_WAITING = 64  # results of triggers that came while BUSY; each is UNKNOWN


@dataclass(frozen=True)
class Outputs:
    """All that a PLC sees, as of one moment.

    verdict: of the result that is shown, None = none is. heartbeat: counts up. sequence: number of the last result that was shown.
    reason: 0 or a code; score_milli: score × 1000 or NO_SCORE. triggers = ok_parts + ng_parts + unknown_parts + parts in work + those
    without a part (errors NOT_RUNNING and COUNTER_JUMPED). refused: triggers that were not taken, for any error.
    """

    ready: bool = False
    busy: bool = False
    verdict: Verdict | None = None
    error: HandshakeError = HandshakeError.NONE
    heartbeat: int = 0
    sequence: int = 0
    reason: int = 0
    score_milli: int = NO_SCORE
    part_id: str = ""
    counter: int = 0
    triggers: int = 0
    refused: int = 0
    ok_parts: int = 0
    ng_parts: int = 0
    unknown_parts: int = 0

    @property
    def bits(self) -> dict[str, bool]:
        """The signals of one bit, in the order of the register map."""
        return {
            "READY": self.ready,
            "BUSY": self.busy,
            "RESULT_VALID": self.verdict is not None,
            "OK": self.verdict is Verdict.OK,
            "NG": self.verdict is Verdict.NG,
            "UNKNOWN": self.verdict is Verdict.UNKNOWN,
            "ERROR": self.error is not HandshakeError.NONE,
            "HEARTBEAT": bool(self.heartbeat & 1),
        }


@dataclass
class _Counts:
    triggers: int = 0
    refused: int = 0
    results: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))


class Handshake:
    """One station as its PLC sees it. From any thread.

    changed: called after each change of the outputs; it must not wait. attended: results wait to be acknowledged; False = each stands
    until the next one comes, which waits only until the bus has told its clients of the one before it.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None, *, attended: bool = True) -> None:
        self.changed, self.attended = changed, attended
        self._lock = threading.Lock()
        self._fire: TakePart | None = None
        self._refuse: TakePart | None = None
        self._in_work = 0  # parts without a result
        self._waiting: deque[Result] = deque(maxlen=_MOST_WAITING)
        self._shown: Result | None = None
        self._error = HandshakeError.NONE
        self._trigger_level = self._ack_level = False
        self._counter = self._heartbeat = self._sequence = self._told = 0
        self._counts = _Counts()

    def open(self, fire: TakePart, refuse: TakePart) -> None:
        """READY from now on. fire: makes a part; refuse: makes one that is UNKNOWN because the station was busy."""
        with self._lock:
            self._fire, self._refuse = fire, refuse
        self.changed()

    def close(self) -> None:
        """Never READY again; results of parts in work are still shown."""
        with self._lock:
            self._fire = self._refuse = None
        self.changed()

    def set_levels(self, *, trigger: bool, ack: bool, counter: int | None = None, part_id: str = "") -> None:
        """What the PLC writes. Only edges count, so that writing the same again does nothing.

        counter: 16 bits, None = the PLC does not use it; one more than before is a trigger as well.
        """
        with self._lock:
            acknowledged, self._ack_level = ack and not self._ack_level, ack
            triggered, self._trigger_level = trigger and not self._trigger_level, trigger
            stepped, jumped = self._count_to(counter)
            if acknowledged:
                self._withdraw()
            self._show_next()
        if triggered or stepped:
            self.trigger(part_id)
        elif jumped:
            self._deny(HandshakeError.COUNTER_JUMPED)
        self.changed()

    def trigger(self, part_id: str = "") -> bool:
        """One trigger; False when it was not taken, and ERROR says why."""
        with self._lock:
            taken = self._in_work == 0
            take = self._fire if taken else self._refuse
            if take is not None:
                self._counts.triggers += 1
                self._in_work += 1
                self._withdraw_all() if taken else self._note(HandshakeError.NOT_READY)
        if take is None:
            self._deny(HandshakeError.NOT_RUNNING)
        elif not take(part_id):  # outside the lock: the part may have its result before this returns
            with self._lock:
                self._in_work -= 1
                self._counts.refused += taken  # a trigger while BUSY is counted already
                self._error = HandshakeError.NOT_RUNNING
            taken = False
        self.changed()
        return taken and take is not None

    def acknowledge(self) -> None:
        """ACK rises and falls at once, for buses that call."""
        with self._lock:
            self._withdraw()
            self._show_next()
        self.changed()

    def show(self, result: Result) -> None:
        """The result of the oldest part in work; it is shown once the one before it and any ERROR are acknowledged and ACK is low."""
        with self._lock:
            self._in_work = max(0, self._in_work - 1)
            self._counts.triggers += not self.attended  # by somebody else
            self._counts.results[result.verdict] += 1
            self._waiting.append(result)
            self._show_next()
        self.changed()

    def told(self, sequence: int) -> None:
        """Clients have been told of the result of this number: where nobody acknowledges, the next one may take its place."""
        with self._lock:
            self._told, follows = sequence, bool(self._waiting)
            self._show_next()
        if follows:
            self.changed()

    def beat(self) -> None:
        """The line moves; call it every HEARTBEAT_S."""
        with self._lock:
            self._heartbeat = (self._heartbeat + 1) & 0xFFFF
        self.changed()

    @property
    def outputs(self) -> Outputs:
        """As of now."""
        with self._lock:
            shown, counts = self._shown, self._counts
            return Outputs(
                ready=self._fire is not None and self._in_work == 0,
                busy=self._in_work > 0,
                verdict=shown.verdict if shown else None,
                error=self._error,
                heartbeat=self._heartbeat,
                sequence=self._sequence,
                reason=REASON_CODES[shown.reasons[0]] if shown and shown.reasons else 0,
                score_milli=_milli(shown.score if shown else None),
                part_id=shown.part_id if shown else "",
                counter=self._counter,
                triggers=counts.triggers % _UINT32,
                refused=counts.refused % _UINT32,
                ok_parts=counts.results[Verdict.OK] % _UINT32,
                ng_parts=counts.results[Verdict.NG] % _UINT32,
                unknown_parts=counts.results[Verdict.UNKNOWN] % _UINT32,
            )

    def _count_to(self, counter: int | None) -> tuple[bool, bool]:
        """(moved on by one, moved otherwise)."""
        if counter is None or counter == self._counter:
            return False, False
        stepped = counter == (self._counter + 1) & 0xFFFF
        self._counter = counter
        return stepped, not stepped

    def _deny(self, error: HandshakeError) -> None:
        with self._lock:
            self._counts.triggers += 1
            self._note(error)

    def _note(self, error: HandshakeError) -> None:
        """The result of another part must not stand behind this trigger, unless it stands there for those who only look."""
        self._counts.refused += 1
        self._error = error
        if self.attended:
            self._shown = None

    def _withdraw(self) -> None:
        self._shown, self._error = None, HandshakeError.NONE

    def _withdraw_all(self) -> None:
        """A PLC that goes on without acknowledging must not meet an old result behind the new trigger."""
        self._withdraw()
        self._waiting.clear()

    def _show_next(self) -> None:
        if self.attended:
            free = self._shown is None and self._error is HandshakeError.NONE and not self._ack_level
        else:
            free = self._shown is None or self._told == self._sequence
        if free and self._waiting:
            self._shown = self._waiting.popleft()
            self._sequence = self._shown.seq % _UINT32


def _milli(score: float | None) -> int:
    if score is None:
        return NO_SCORE
    return min(max(round(1000.0 * score), NO_SCORE + 1), 2**31 - 1)
