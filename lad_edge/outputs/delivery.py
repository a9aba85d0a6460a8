"""Store and forward: records of the outbox go to one output, in order, each until it is acknowledged.

An output that is slow, frozen or gone holds up nobody but itself: it has its own thread, reads a bounded number of records
ahead from the disk, and its cursor in the outbox moves only with its acknowledgements. After a kill it goes on there, so that
a record may be delivered twice, with equal key, but is never left out.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from dataclasses import dataclass
from secrets import SystemRandom
from typing import TYPE_CHECKING, Protocol

from lad_edge.errors import SinkError
from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lad_edge.outputs.ledger import Reader, Stored
    from lad_edge.outputs.outbox import Outbox

_READ_AHEAD = 64  # records in memory
_IDLE_S = 0.5  # how often an output without records is asked whether its connection lives
_OPENS_AFTER = 3  # failures in a row; then the circuit is open and each try is with one record
_BEHIND_S = 2.0  # age of the oldest unacknowledged record from which on the output is behind (reliability.md G14)
_FIRST_PAUSE_S = 0.25
_JOIN_S = 1.0


class DeliveryError(SinkError):
    """Records were not acknowledged; they are tried again. `acknowledged`: how many of those given were, from the first on."""

    def __init__(self, message: str, acknowledged: int = 0) -> None:
        super().__init__(message)
        self.acknowledged = acknowledged


class RefusedError(DeliveryError):
    """The receiver will never take the record behind the acknowledged ones. It is counted and passed over, and stays in the outbox."""


class Output(Protocol):
    """A place that wants every record. Only its own thread calls it."""

    name: str  # for people and for the cursor; without credentials
    slowest_retry_s: float  # the longest pause between two tries

    def open(self) -> None:
        """Connects. Raises DeliveryError."""

    def deliver(self, records: Sequence[Stored], /) -> None:
        """Returns when all are acknowledged, or raises DeliveryError. Each wait inside has a time-out."""

    def idle(self) -> None:
        """Is called about twice a second while there is nothing to deliver. Raises DeliveryError when the connection is gone."""

    def close(self) -> None:
        """Takes leave and frees. Is called after every failure too, and raises nothing."""


@dataclass(frozen=True)
class DeliveryHealth:
    """state: "open" (connected), "retrying" or "broken" (the circuit is open). backlog: records not acknowledged.

    oldest_s: age of the oldest of them. expired: records that the outbox's quota took before they were delivered; refused: see
    RefusedError. codes: SINK_BEHIND from 2 s on, NOT_DURABLE for expired records. detail: the last failure, for a person.
    """

    name: str
    state: str
    backlog: int
    oldest_s: float
    delivered: int
    refused: int
    expired: int
    failures: int
    codes: tuple[str, ...]
    detail: str


class BackOff:
    """Pauses that double from a quarter second up to a limit, each shortened at random, so that a hundred boxes do not knock at once."""

    def __init__(self, slowest_s: float) -> None:
        self.slowest_s, self.failures = slowest_s, 0
        self._random = SystemRandom()

    @property
    def broken(self) -> bool:
        """True once it failed several times in a row."""
        return self.failures >= _OPENS_AFTER

    def next_s(self) -> float:
        """The pause after one more failure."""
        pause_s = min(self.slowest_s, _FIRST_PAUSE_S * 2.0 ** min(self.failures, 20))
        self.failures += 1
        return pause_s * self._random.uniform(0.5, 1.0)


class Delivery(threading.Thread):
    """One output's thread; it never ends by itself."""

    def __init__(
        self, outbox: Outbox, output: Output, notice: Callable[[str], None], *, from_start: bool = False
    ) -> None:
        """from_start: an output that is new to this outbox gets all that is stored, else what comes from now on."""
        super().__init__(name=f"delivery {output.name}", daemon=True)
        self.outbox, self.output, self._notice = outbox, output, notice
        known = outbox.cursor(output.name)
        self._cursor = known if known is not None else (outbox.first_id - 1 if from_start else outbox.last_id)
        outbox.acknowledge(output.name, self._cursor)
        self._stopping = threading.Event()
        self._back_off = BackOff(output.slowest_retry_s)
        self._connected, self._detail = False, ""
        self._head_s = math.inf  # when the oldest unacknowledged record was stored; inf = none has been seen
        self._delivered = self._refused = self._expired = self._failures = 0

    def run(self) -> None:
        """Delivers until it is stopped."""
        reader: Reader | None = None
        while not self._stopping.is_set():
            reader = self._try(reader)
        self.output.close()
        if reader is not None:
            reader.close()

    def drained(self) -> bool:
        """True when the output has acknowledged all that is stored, or has passed it over."""
        return self._cursor >= self.outbox.last_id

    def worth_waiting(self) -> bool:
        """True while records are on their way; for an output that fails again and again nobody should wait."""
        return not self.drained() and not self._back_off.broken

    def ask_to_stop(self) -> None:
        """The thread ends as soon as its output returns."""
        self._stopping.set()
        self.outbox.wake()

    def stop(self, timeout_s: float = _JOIN_S, when: str = "after the next start") -> bool:
        """Ends the thread; False when the output did not return in time and is left behind. when: its records will go out."""
        self.ask_to_stop()
        self.join(max(0.0, timeout_s))
        if not self.drained():
            left = self.outbox.last_id - self._cursor
            self._notice(f"{self.output.name}: {left} records wait in the outbox; they go out {when}")
        return not self.is_alive()

    def health(self) -> DeliveryHealth:
        """How it is doing now."""
        backlog = max(0, self.outbox.last_id - self._cursor)
        oldest_s = max(0.0, self.outbox.running_s - self._head_s) if backlog else 0.0
        behind = oldest_s > _BEHIND_S
        return DeliveryHealth(
            name=self.output.name,
            state="broken" if self._back_off.broken else "open" if self._connected else "retrying",
            backlog=backlog,
            oldest_s=oldest_s,
            delivered=self._delivered,
            refused=self._refused,
            expired=self._expired,
            failures=self._failures,
            codes=tuple([Reason.SINK_BEHIND.value] * behind + [Reason.NOT_DURABLE.value] * bool(self._expired)),
            detail=self._detail,
        )

    def _try(self, reader: Reader | None) -> Reader | None:
        try:
            reader = reader or self.outbox.reader()
            self._step(reader)
        except sqlite3.Error as exc:
            self._fail(exc)
            if reader is not None:
                reader.close()
            return None
        except Exception as exc:  # an output that dies silently would be missed only at the end of the shift
            self._fail(exc)
        return reader

    def _step(self, reader: Reader) -> None:
        self._look_at_head(reader)
        if not self._connected:
            self.output.open()
            self._connected = True
        if not self.outbox.wait_beyond(self._cursor, _IDLE_S, self._stopping.is_set):
            self.output.idle()
            self._recovered()
            return
        records = reader.after(self._cursor, 1 if self._back_off.broken else _READ_AHEAD)
        if records:
            self._hand_over(records)
            self._recovered()

    def _look_at_head(self, reader: Reader) -> None:
        """So that the age of what waits is known although the output does not open."""
        if self._head_s == math.inf and not self.drained():
            self._head_s = next((record.running_s for record in reader.after(self._cursor, 1)), math.inf)

    def _hand_over(self, records: Sequence[Stored]) -> None:
        self._expired += records[0].id - self._cursor - 1
        self._head_s = records[0].running_s
        try:
            self.output.deliver(records)
        except RefusedError as exc:
            self._acknowledge(records[: exc.acknowledged])
            self._pass_over(records[exc.acknowledged], str(exc))
        except DeliveryError as exc:
            self._acknowledge(records[: exc.acknowledged])
            raise
        else:
            self._acknowledge(records)

    def _acknowledge(self, records: Sequence[Stored]) -> None:
        if records:
            self._delivered += len(records)
            self._move(records[-1])

    def _pass_over(self, record: Stored, why: str) -> None:
        self._refused += 1
        self._notice(f"{self.output.name} refused record {record.key}: {why}; it stays in the outbox")
        self._move(record)

    def _move(self, record: Stored) -> None:
        self._cursor, self._head_s = record.id, math.inf
        self.outbox.acknowledge(self.output.name, self._cursor)

    def _recovered(self) -> None:
        if self._back_off.failures:
            self._notice(f"{self.output.name} takes records again")
        self._back_off.failures, self._detail = 0, ""

    def _fail(self, exc: Exception) -> None:
        self._detail = str(exc) if isinstance(exc, DeliveryError) else f"{type(exc).__name__}: {exc}"
        self._failures += 1
        if not self._back_off.failures:
            self._notice(f"{self.output.name}: {self._detail}; records wait in the outbox")
        self._connected = False
        self.output.close()
        self._stopping.wait(self._back_off.next_s())
