"""Parts that were triggered and have no record yet: pictures come in, verdicts come in, and records leave in the order of the triggers.

A part is numbered the moment it is triggered. Whatever happens to it afterwards (judged, dropped, overdue, stopped), it is settled once, by
one result, and leaves once. So triggers = OK + NG + UNKNOWN + open parts, at any moment.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lad_edge.values import Frame, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.values import Result

_MOST_OPEN = 10_000  # minutes of a camera whose inspector hangs: memory stays bounded, the driver drops from then on
_AWAKE = 1 << 63  # later than any deadline: whatever comes while nobody rests is looked at before the next rest
_ON_ITS_WAY_NS = 1_000_000  # a verdict, from here to a PLC
_DROPPED = "newer parts arrived while the inspector was busy"


@dataclass
class Part:
    """One trigger and what has come of it so far.

    part_id: the name that whoever triggered gave it. clock_ns: monotonic time from which its deadline counts; None = not yet.
    told: the result that was put out, once it was.
    """

    seq: int
    part_id: str
    triggered_ns: int
    utc_ns: int
    pictures: int
    clock_ns: int | None
    frames: list[Frame] = field(default_factory=list)
    taken: bool = False
    result: Result | None = None
    told: Result | None = None

    @property
    def complete(self) -> bool:
        """It has all its pictures, or the statement that there will be none."""
        return len(self.frames) >= self.pictures or any(frame.fault is not None for frame in self.frames)

    @property
    def waiting(self) -> bool:
        """It can be judged as soon as somebody takes it."""
        return self.complete and not self.taken and self.result is None

    def frame(self) -> Frame:
        """Its last picture under the part's number; one without an image before there is any."""
        last = self.frames[-1] if self.frames else Frame(0, "", None, "", self.triggered_ns, self.utc_ns)
        return replace(last, seq=self.seq, part_id=self.part_id)


class Parts:
    """The open parts between capture, inspector, deadline and stop, which are threads of their own.

    capacity: how many complete parts wait for the inspector. Then the oldest one is dropped, or with `wait_when_full` the source is held
    back. unjudged: makes the result of a part that nobody judged.
    """

    def __init__(
        self,
        capacity: int,
        unjudged: Callable[[Part, Reason, str], Result],
        *,
        wait_when_full: bool,
        first_seq: int = 1,
        clock_runs: bool = True,
    ) -> None:
        """clock_runs: deadlines count from the capture; False = from the moment that a part is taken (recorded pictures)."""
        self.capacity, self.unjudged, self.wait_when_full, self.clock_runs = (
            capacity,
            unjudged,
            wait_when_full,
            clock_runs,
        )
        self.triggered = self.dropped = 0
        self._next_seq = first_seq
        self._open: deque[Part] = deque()
        self._closed = False
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        # Who watches the deadlines: woken only for what cannot wait until its next look, as each waking delays the part in work.
        self._watch = threading.Condition(lock)
        self._limits_ns: tuple[int | None, int | None] = (None, None)
        self._looks_ns, self._look_now = _AWAKE, False

    def put(self, frame: Frame) -> bool:
        """A picture that is a part by itself; False once the line ends, and the picture was not taken over."""
        with self._changed:
            part = self._trigger("", 1, frame.captured_ns, frame.utc_ns)
            if part is None:
                return False
            self._add(part, frame)
            return True

    def trigger(self, part_id: str = "", pictures: int = 1) -> Part | None:
        """A part whose pictures are still to come, numbered now; None once the line ends."""
        with self._changed:
            return self._trigger(part_id, pictures, time.monotonic_ns(), time.time_ns())

    def refuse(self, part_id: str, reason: Reason, detail: str) -> Part | None:
        """A part that gets no pictures and is settled at once, for this reason; None once the line ends, or when too many are open."""
        with self._changed:
            if len(self._open) >= _MOST_OPEN:
                return None
            part = self._trigger(part_id, 1, time.monotonic_ns(), time.time_ns())
            if part is not None:
                self._settle_unjudged(part, reason, detail)
            return part

    def number_from(self, seq: int) -> None:
        """No part that comes has a lower number: some sink knows records up to there."""
        with self._changed:
            self._next_seq = max(self._next_seq, seq)

    def add(self, frame: Frame) -> bool:
        """Gives a picture that was captured after its trigger to the oldest part that lacks one; False when none does."""
        with self._changed:
            for part in self._open:
                if part.result is None and not part.complete and frame.captured_ns >= part.triggered_ns:
                    self._add(part, frame)
                    return True
            return False

    @property
    def wanting(self) -> bool:
        """Some part waits for a picture."""
        with self._changed:
            return any(part.result is None and not part.complete for part in self._open)

    def take(self, timeout_s: float) -> Part | None:
        """The oldest part that can be judged, waiting for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._first_waiting() is not None, timeout_s)
            part = self._first_waiting()
            if part is not None:
                part.taken = True
                if part.clock_ns is None:
                    part.clock_ns = time.monotonic_ns()
                    self._watch_for(part)
                self._changed.notify_all()
            return part

    def settle(self, part: Part, result: Result, picture: int = -1) -> bool:
        """Gives a part its result and the picture that stands for it; False when it has a result already, which stays."""
        with self._changed:
            if part.result is not None:
                return False
            part.result, part.frames = result, [part.frames[picture]]
            self._changed.notify_all()
            return True

    def tell(self, part: Part, result: Result) -> None:
        """What was put out for a part that has left."""
        with self._changed:
            part.told = result
            self._changed.notify_all()

    def result_of(self, part: Part, timeout_s: float) -> Result | None:
        """Waits for what is put out for a part; None when it is not in time."""
        with self._changed:
            self._changed.wait_for(lambda: part.told is not None, timeout_s)
            return part.told

    def leave(self) -> Part | None:
        """The oldest part if it is settled: it is out from now on, and the caller writes its record before the next one leaves."""
        with self._changed:
            return self._open.popleft() if self._open and self._open[0].result is not None else None

    def expire(self, deadline_ns: int | None, pictures_ns: int | None) -> float:
        """Settles parts that are due; returns the seconds until the next one is, at most one.

        deadline_ns: from the clock of a part to its result. pictures_ns: from the trigger to its last picture.
        """
        with self._changed:
            self._limits_ns = (deadline_ns, pictures_ns)
            now_ns, next_ns = time.monotonic_ns(), time.monotonic_ns() + 1_000_000_000
            for part in self._open:
                for at_ns, reason in _dues(part, deadline_ns, pictures_ns):
                    if part.result is None and at_ns <= now_ns:
                        self._settle_unjudged(part, reason, _overdue(part, reason, deadline_ns, pictures_ns))
                    elif part.result is None:
                        next_ns = min(next_ns, at_ns)
            return max(0.0, (next_ns - now_ns) / 1e9)

    def wait_for_change(self, timeout_s: float) -> None:
        """The rest of the one who watches the deadlines: until that time is up, or there is something to do since its last rest.

        A part was settled that nobody judged, or is due earlier than the end of the rest, or none will come any more.
        """
        with self._changed:
            self._looks_ns = time.monotonic_ns() + round(1e9 * timeout_s)
            self._watch.wait_for(lambda: self._look_now, timeout_s)
            self._looks_ns, self._look_now = _AWAKE, False

    def settle_all(self, reason: Reason, detail: str) -> None:
        """Gives every open part a result without judgement: its own fault, else this reason."""
        with self._changed:
            for part in self._open:
                if part.result is None:
                    self._settle_unjudged(part, reason, detail)

    def close(self) -> None:
        """No part enters any more; those inside can still be judged."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._look()

    @property
    def closed(self) -> bool:
        """No part enters any more."""
        with self._changed:
            return self._closed

    @property
    def finished(self) -> bool:
        """Closed, and no part is left to be judged: those without all their pictures will not get them."""
        with self._changed:
            return self._closed and self._first_waiting() is None

    @property
    def open(self) -> int:
        """Parts without a record."""
        with self._changed:
            return len(self._open)

    def _trigger(self, part_id: str, pictures: int, at_ns: int, utc_ns: int) -> Part | None:
        self._changed.wait_for(lambda: self._closed or not self._must_wait())
        if self._closed:
            return None
        part = Part(self._next_seq, part_id, at_ns, utc_ns, pictures, at_ns if self.clock_runs else None)
        self._next_seq += 1
        self.triggered += 1
        self._open.append(part)
        self._watch_for(part)
        return part

    def _add(self, part: Part, frame: Frame) -> None:
        part.frames.append(frame)
        if part.complete:
            self._drop_oldest()
        self._changed.notify_all()

    def _waiting(self) -> list[Part]:
        return [part for part in self._open if part.waiting]

    def _first_waiting(self) -> Part | None:
        return next((part for part in self._open if part.waiting), None)

    def _must_wait(self) -> bool:
        return len(self._open) >= _MOST_OPEN or (self.wait_when_full and len(self._waiting()) >= self.capacity)

    def _drop_oldest(self) -> None:
        waiting = self._waiting()
        for loser in waiting[: max(0, len(waiting) - self.capacity)]:
            self._settle_unjudged(loser, Reason.DROPPED, _DROPPED)
            self.dropped += 1

    def _settle_unjudged(self, part: Part, reason: Reason, detail: str) -> None:
        part.result = self.unjudged(part, reason, detail)
        part.frames = part.frames[-1:]
        if (
            reason is not Reason.DEADLINE
        ):  # a late one may still be judged, and looked at by a person; others must not fill the memory
            part.frames = [replace(frame, image=None) for frame in part.frames]
        self._changed.notify_all()
        self._look()

    def _watch_for(self, part: Part) -> None:
        """Its deadline may be the next one."""
        if any(at_ns < self._looks_ns for at_ns, _ in _dues(part, *self._limits_ns)):
            self._look()

    def _look(self) -> None:
        self._look_now = True
        self._watch.notify_all()


def due_ns(clock_ns: int, deadline_ns: int) -> int:
    """When a part is settled at the latest, so that whoever waits for its verdict has it by the deadline."""
    return clock_ns + deadline_ns - min(_ON_ITS_WAY_NS, deadline_ns // 10)


def _dues(part: Part, deadline_ns: int | None, pictures_ns: int | None) -> list[tuple[int, Reason]]:
    """When a part is due for what: (monotonic ns, reason)."""
    dues = []
    if deadline_ns is not None and part.clock_ns is not None:
        dues.append((due_ns(part.clock_ns, deadline_ns), Reason.DEADLINE))
    if pictures_ns is not None and not part.complete:
        dues.append((part.triggered_ns + pictures_ns, Reason.FRAME_MISSING))
    return dues


def _overdue(part: Part, reason: Reason, deadline_ns: int | None, pictures_ns: int | None) -> str:
    """For a person: what did not come in time."""
    if reason is Reason.DEADLINE:
        return f"no verdict within {(deadline_ns or 0) / 1e6:g} ms; the part was {_where(part)}"
    got = f"{len(part.frames)} of {part.pictures} pictures"
    return f"the camera delivered {got} within {(pictures_ns or 0) / 1e6:g} ms of the trigger"


def _where(part: Part) -> str:
    if part.taken:
        return "being inspected"
    return "waiting for the inspector" if part.complete else "waiting for its picture"
