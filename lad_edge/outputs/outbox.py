"""Results go in and are on the disk a moment later, whatever happens to the process: the source of truth.

`write` only hands over. A thread of its own makes the records and commits whatever has come in meanwhile as one transaction
(group commit); only then do the outputs see them. While the disk refuses, records wait in memory and verdicts go on.

`write_durable` waits for the commit of an OK. What is not committed in time is withdrawn: UNKNOWN takes its place, in the next
commit at the latest, and before any output has seen it.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.errors import SinkError
from lad_edge.outputs.ledger import Ledger, Reader, Retention
from lad_edge.outputs.reserve import Reserve
from lad_edge.stream.records import Origin, json_line, to_record
from lad_edge.stream.sinks import not_durable, without_maps
from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lad_edge.values import Frame, Result

MOST_BYTES = 2 << 30  # of the file, when nobody says otherwise: about two million records
_BATCH = 256  # records in one transaction at most
_PICTURES = 8  # pictures that may wait for their hash; a slow disk must not fill the memory with them
_HASHED_AT_ONCE = 1 << 18  # bytes: a sixth of a millisecond
_AFTER_YOU_S = 0.0005  # on few cores the writer would hold up those sinks that get the same part after this one
_POLL_S = 0.1  # how long the cursors of the outputs may wait for their commit
_TIDY_EVERY = 1024  # records
_FIRST_RETRY_S, _SLOWEST_RETRY_S = 0.05, 1.0
_LAST_TRY_S = 1.0  # at the close, with a disk that refuses


@dataclass(frozen=True)
class Limits:
    """What the outbox may take of disk and memory.

    retention: what the file keeps; reserve_bytes: of the disk, given away once it is full. waiting: records in memory while
    the disk refuses; `when_full`: "stop" = then the line stops with a SinkError, "continue" = it goes on and counts what is lost.
    """

    retention: Retention = field(default_factory=lambda: Retention(max_bytes=MOST_BYTES))
    waiting: int = 20_000
    when_full: str = "stop"
    reserve_bytes: int = 64 << 20


@dataclass(frozen=True)
class OutboxHealth:
    """codes: DISK_LOW while the disk refuses or the reserve is used up, NOT_DURABLE once records were lost.

    stored, lost: records; unhashed: stored without the sha256 of their picture; waiting: handed over, not yet on the disk;
    commits: transactions, which took commit_s together; detail: one line for a person.
    """

    name: str
    codes: tuple[str, ...]
    stored: int
    lost: int
    unhashed: int
    waiting: int
    commits: int
    commit_s: float
    detail: str


@dataclass(eq=False)
class _Job:
    """What waits for the disk. late: it belongs beside the record of its part, which was handed over before. stored: it is on the disk.

    origin: of the moment at which it was handed over; a reload changes it.
    """

    image: NDArray[np.generic] | None
    result: Result
    origin: Origin
    late: bool = False
    stored: bool = False


class Outbox:
    """A sink (stream/sinks.py) on the line, and what the outputs read from."""

    def __init__(self, path: Path, origin: Origin, notice: Callable[[str], None], limits: Limits | None = None) -> None:
        """notice: takes a line for a person. Raises SinkError when the file cannot be the outbox of this process."""
        self.path, self.origin, self.limits, self._notice = path, origin, limits or Limits(), notice
        self._ledger = Ledger(path)
        self._reserve = Reserve(path, self.limits.reserve_bytes)
        self._started_s = time.monotonic() - self._ledger.running_s
        self.next_seq, self.first_id = self._ledger.last_seq(origin) + 1, self._ledger.first_id
        self._cursors, self._moved = self._ledger.cursors(), dict[str, int]()
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._given = threading.Condition(lock)  # for the writer alone: outputs have nothing to do before its commit
        self._awaited = 0  # callers of `write_durable`
        self._waiting: deque[_Job] = deque()
        self._pictures = 0  # of those that wait
        self._closing, self._error, self._trouble = False, "", ""
        self._handed = self._done = self._late = self._lost = self._unhashed = self._commits = 0
        self._commit_s, self._tidy_at = 0.0, 0
        if self._ledger.set_aside is not None:
            notice(f"the outbox {path} was damaged: it is kept as {self._ledger.set_aside.name}, a new one is begun")
        self._writer = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._writer.start()

    def write(self, frame: Frame, result: Result) -> None:
        """Hands one result over. Raises SinkError when it cannot be kept any more."""
        self._hand_over(frame.image, result)

    def write_durable(self, frame: Frame, result: Result, limit_s: float) -> Result:
        """Hands one result over, and waits until it is on the disk; returns the result that stands, and is recorded.

        It is another one, UNKNOWN, if the disk refuses, or has not taken it at `limit_s` on the monotonic clock. Raises SinkError when
        nothing can be kept any more.
        """
        with self._changed:
            job = self._hand_over(frame.image, result)
            self._awaited += 1
            self._changed.wait_for(
                lambda: job.stored or self._trouble or self._error, max(0.0, limit_s - time.monotonic())
            )
            self._awaited -= 1
            if not job.stored:
                job.result = not_durable(job.result, self._error or self._trouble, *self._warnings())
            return replace(result, verdict=job.result.verdict, reasons=job.result.reasons, detail=job.result.detail)

    def write_late(self, result: Result) -> None:
        """Hands over what came after the deadline of a part. Raises SinkError when nothing can be kept any more."""
        self._hand_over(None, result, late=True)

    def flush(self, timeout_s: float) -> bool:
        """Waits until everything that was handed over is on the disk; False when it is not in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._done == self._handed or self._error, timeout_s)
            return self._done == self._handed

    def close(self) -> None:
        """Commits what waits and closes the file. Raises SinkError when something could not be kept."""
        with self._changed:
            self._closing = True
            self._given.notify()
        self._writer.join()
        self._reserve.release()
        self._ledger.close()
        if self._error:
            raise SinkError(self._error)

    @property
    def last_id(self) -> int:
        """Id of the newest committed record."""
        return self._ledger.last_id

    @property
    def running_s(self) -> float:
        """Seconds that this outbox has been running, over all starts; never goes back."""
        return time.monotonic() - self._started_s

    def wait_beyond(self, last_id: int, timeout_s: float, given_up: Callable[[], bool]) -> bool:
        """Waits for a committed record behind that id; given_up is asked after each `wake`."""
        with self._changed:
            self._changed.wait_for(lambda: self.last_id > last_id or given_up(), timeout_s)
            return self.last_id > last_id

    def wake(self) -> None:
        """Those that wait look again."""
        with self._changed:
            self._changed.notify_all()

    def cursor(self, output: str) -> int | None:
        """The id up to which the output has acknowledged; None for one that is new."""
        with self._changed:
            return self._cursors.get(output)

    def acknowledge(self, output: str, last_id: int) -> None:
        """Moves an output's cursor; it is on the disk with the next commit."""
        with self._changed:
            self._cursors[output] = self._moved[output] = last_id

    def reader(self) -> Reader:
        """A connection of its own, for one thread."""
        return Reader(self.path, lambda: self.last_id)

    def health(self) -> OutboxHealth:
        """How it is doing now."""
        with self._changed:
            codes = [*self._warnings(), *[Reason.NOT_DURABLE] * bool(self._lost)]
            return OutboxHealth(
                name=f"sqlite:{self.path}",
                codes=tuple(code.value for code in codes),
                stored=self._done - self._late,
                lost=self._lost,
                unhashed=self._unhashed,
                waiting=self._handed - self._done,
                commits=self._commits,
                commit_s=self._commit_s,
                detail=self._error or self._trouble,
            )

    def _warnings(self) -> list[Reason]:
        return [Reason.DISK_LOW] * (bool(self._trouble) or not self._reserve.held)

    def _hand_over(self, image: NDArray[np.generic] | None, result: Result, *, late: bool = False) -> _Job:
        with self._changed:
            if self._error:
                raise SinkError(self._error)
            if len(self._waiting) >= self.limits.waiting:
                self._overflow()
                return _Job(None, result, self.origin)
            job = _Job(self._picture_to_hash(image), without_maps(result), self.origin, late)
            self._waiting.append(job)
            self._handed += 1
            self._given.notify()
            return job

    def _picture_to_hash(self, image: NDArray[np.generic] | None) -> NDArray[np.generic] | None:
        if image is None:
            return None
        if self._pictures == _PICTURES:
            self._unhashed += 1
            return None
        self._pictures += 1
        return image

    def _overflow(self) -> None:
        if self.limits.when_full == "stop":
            self._error = f"{self.path}: {len(self._waiting)} records wait for the disk ({self._trouble}); free space"
            raise SinkError(self._error)
        self._lost += 1

    def _work(self) -> None:
        try:
            while self._step():
                pass
        except sqlite3.DatabaseError as exc:
            self._fail(f"the outbox {self.path} is damaged ({exc}): it is kept beside it as .bad; start again")
            with suppress(OSError):
                self._ledger.condemn()
        except Exception as exc:  # a writer that dies silently would lose every later record
            self._fail(f"the outbox {self.path} failed: {type(exc).__name__}: {exc}; start again and report this")

    def _step(self) -> bool:
        """Commits what has come in. False when all is done."""
        with self._changed:
            self._given.wait_for(lambda: self._waiting or self._closing, _POLL_S)
            leisurely = not self._awaited and not self._closing
        if leisurely:
            time.sleep(_AFTER_YOU_S)
        with self._changed:
            jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
            self._pictures -= sum(job.image is not None for job in jobs)
            cursors, self._moved = self._moved, {}
            closing = self._closing
        self._reserve.fill()
        if not jobs and not cursors:
            return not closing
        if not self._store(jobs, cursors):
            return False
        if self._done >= self._tidy_at:
            self._tidy()
        return True

    def _publish(self, jobs: Sequence[_Job], stored: Sequence[Result]) -> bool:
        """What was stored stands from now on; False when one of the results was withdrawn meanwhile."""
        with self._changed:
            if any(job.result is not result for job, result in zip(jobs, stored, strict=True)):
                return False
            self._ledger.publish()
            for job in jobs:
                job.stored = True
            self._done += len(jobs)
            self._late += sum(job.late for job in jobs)
            self._changed.notify_all()
            return True

    def _line(self, result: Result, origin: Origin, sha256: str | None) -> str:
        record = to_record(result, origin, sha256)
        try:
            line = json_line(record)
        except ValueError:  # NaN or Inf, which no gate lets pass: the record is kept, the number is not
            line = json_line(_finite(record))
        return line.removesuffix("\n")

    def _store(self, jobs: Sequence[_Job], cursors: dict[str, int]) -> bool:
        """Tries until it is stored; False when the line ends and the disk still refuses."""
        hashes = [None if job.image is None else frame_sha256(job.image) for job in jobs]
        pause_s, limit_s = _FIRST_RETRY_S, math.inf
        while True:
            start_s, results = time.monotonic(), [job.result for job in jobs]
            origins = [job.origin for job in jobs]
            lines = [self._line(*each) for each in zip(results, origins, hashes, strict=True)]
            try:
                self._append(jobs, lines, cursors)
            except sqlite3.OperationalError as exc:  # full, read-only, an error of the device: all may pass
                self._note(f"the outbox {self.path} cannot be written: {exc}")
            else:
                self._commits, self._commit_s = self._commits + 1, self._commit_s + time.monotonic() - start_s
                if self._publish(jobs, results):
                    self._note("")
                    return True
                continue
            if self._reserve.release():
                continue
            limit_s = min(limit_s, time.monotonic() + _LAST_TRY_S) if self._closing else math.inf
            if time.monotonic() + pause_s > limit_s:
                return self._give_up(len(jobs))
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _SLOWEST_RETRY_S)

    def _append(self, jobs: Sequence[_Job], lines: Sequence[str], cursors: Mapping[str, int]) -> None:
        records, late = (
            [line for job, line in zip(jobs, lines, strict=True) if job.late is wanted] for wanted in (False, True)
        )
        self._ledger.append(records, self.running_s, cursors, late)

    def _give_up(self, popped: int) -> bool:
        self._fail(f"{self._trouble}; {popped + len(self._waiting)} records are lost, those before them are kept")
        return False

    def _note(self, trouble: str) -> None:
        if bool(trouble) != bool(self._trouble):
            self._notice(trouble or f"the outbox {self.path} is written again; {self._lost or 'no'} records were lost")
        with self._changed:
            self._trouble = trouble
            self._changed.notify_all()

    def _fail(self, error: str) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _tidy(self) -> None:
        """Retention; a disk that refuses says so at the next commit."""
        self._tidy_at = self._done + _TIDY_EVERY
        try:
            while self._ledger.trim(self.limits.retention, self.running_s) and not self._waiting:
                pass
        except sqlite3.OperationalError as exc:
            self._note(f"the outbox {self.path} cannot be trimmed: {exc}")


def frame_sha256(image: NDArray[np.generic]) -> str:
    """sha256 of the pixels as they were captured, row by row.

    The line may wait on this very core, and the scheduler lets a thread finish its turn of some milliseconds: this one ends it early.
    """
    pixels, digest = np.ascontiguousarray(image).reshape(-1).view(np.uint8).data, hashlib.sha256()
    for start in range(0, len(pixels), _HASHED_AT_ONCE):
        digest.update(pixels[start : start + _HASHED_AT_ONCE])
        os.sched_yield()
    return digest.hexdigest()


def _finite(value: Any) -> Any:
    """JSON values with null in the place of NaN and Inf."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
