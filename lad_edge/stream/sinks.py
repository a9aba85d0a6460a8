"""Results go in; lines of JSON on a disk or a pipe, and lines for a person on a terminal, come out."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TextIO, runtime_checkable

from lad_edge.errors import SinkError
from lad_edge.stream.records import to_json_line
from lad_edge.stream.writing import write_all
from lad_edge.values import Frame, Reason, Result, Verdict

if TYPE_CHECKING:
    from pathlib import Path

_COLOURS = {Verdict.OK: "\033[32m", Verdict.NG: "\033[31m", Verdict.UNKNOWN: "\033[33m"}
_JUDGEMENTS = frozenset(
    {
        *(Reason.SCORE_WITHIN_LIMIT, Reason.STRUCTURAL_ABOVE_LIMIT),
        *(Reason.LOGICAL_ABOVE_LIMIT, Reason.COMBINED_ABOVE_LIMIT),
    }
)
_RECORD_START = b'{"seq":'
_TAIL_BYTES = 1 << 20  # no record is longer


class Sink(Protocol):
    """Takes each result once, in order of seq."""

    def write(self, frame: Frame, result: Result, /) -> None:
        """Takes one result. Raises SinkError when it cannot be kept."""

    def close(self) -> None:
        """Flushes and frees. Raises SinkError when something could not be kept."""


@runtime_checkable
class Buffered(Protocol):
    """A sink that keeps results a moment after `write`."""

    def flush(self, timeout_s: float, /) -> bool:
        """Waits until everything is kept; False when it is not in time."""


@runtime_checkable
class KeepsLate(Protocol):
    """A sink that also takes what is said of a part after its deadline. The part is UNKNOWN, and nobody is shown anything else."""

    def write_late(self, result: Result, /) -> None:
        """Takes one late result, after the one that stands for its part. Raises SinkError when it cannot be kept."""


OK_WHEN = ("judged", "durable")  # an OK is given when the part is judged, or when its record is on the disk


@runtime_checkable
class Durable(Protocol):
    """A sink that can tell when a result is on the disk."""

    def write_durable(self, frame: Frame, result: Result, limit_s: float, /) -> Result:
        """As `write`, but returns when the result is on the disk, or `not_durable` stands in its place.

        limit_s: when at the latest, on the monotonic clock. Raises SinkError.
        """


class JsonlSink:
    """Appends one line per record to a file; it never holds half a record, and numbering goes on where it ended.

    `sync`: "record" = each record is on the disk before the next part (survives a power cut), "close" = at the end.
    """

    def __init__(self, path: Path, sync: str = "close") -> None:
        self.path, self.sync, self.records = path, sync, 0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise SinkError(f"cannot write results to {path}: {exc.strerror}; choose another file for --out") from exc
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        with ExitStack() as if_it_fails:
            if_it_fails.callback(os.close, self._fd)
            self.next_seq = self._take_over() if self._regular else 1
            if_it_fails.pop_all()

    def write(self, _frame: Frame, result: Result) -> None:
        """Appends one whole line, or nothing and a SinkError."""
        self._append(to_json_line(result).encode())
        self.records += 1

    def close(self) -> None:
        """Brings everything to the disk."""
        try:
            if self._regular:
                os.fsync(self._fd)
        except OSError as exc:
            raise self._failure(exc) from exc
        finally:
            os.close(self._fd)

    def _append(self, line: bytes) -> None:
        end = os.fstat(self._fd).st_size
        try:
            write_all(self._fd, line)
            if self.sync == "record" and self._regular:
                os.fdatasync(self._fd)
        except OSError as exc:
            if self._regular:
                os.ftruncate(self._fd, end)  # a short write must not leave half a record
            raise self._failure(exc) from exc

    def _failure(self, exc: OSError) -> SinkError:
        advice = "free space or choose another disk" if exc.errno == errno.ENOSPC else "check the disk and its limits"
        return SinkError(f"{self.path}: {exc.strerror} after {self.records} records, which are kept; {advice}")

    def _take_over(self) -> int:
        """Locks the file, cuts a record that a crash left half written, returns the next seq."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise SinkError(f"{self.path} is written by another process; choose another file for --out") from exc
        size = os.fstat(self._fd).st_size
        start = max(0, size - _TAIL_BYTES)
        whole, newline, torn = os.pread(self._fd, size - start, start).rpartition(b"\n")
        seq = _seq_of(whole.rpartition(b"\n")[2]) if newline else _seq_before_the_first(torn)
        if seq is None:
            raise SinkError(f"{self.path} exists and is no result file of lad-edge; choose another file for --out")
        os.ftruncate(self._fd, start + len(whole) + len(newline))
        return seq + 1


class PipeSink:
    """Writes one line of JSON per record to an open descriptor, such as standard output."""

    def __init__(self, fd: int) -> None:
        self.fd, self.records = fd, 0

    def write(self, _frame: Frame, result: Result) -> None:
        """Writes one line at once. Raises SinkError when the reader is gone."""
        try:
            write_all(self.fd, to_json_line(result).encode())
        except OSError as exc:
            raise SinkError(
                f"standard output: {exc.strerror} after {self.records} records; its reader is gone"
            ) from exc
        self.records += 1

    def close(self) -> None:
        """The descriptor belongs to the caller."""


class ConsoleSink:
    """One line per part for a person: seq, id, verdict, score against limit, reasons, latency."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._colour = stream.isatty() and "NO_COLOR" not in os.environ

    def write(self, _frame: Frame, result: Result) -> None:
        """Prints one line at once. Raises SinkError when the terminal is gone."""
        try:
            self.stream.write(self._line(result) + "\n")
            self.stream.flush()
        except OSError as exc:
            raise SinkError(f"the terminal is gone: {exc.strerror}; use --out FILE and --quiet without one") from exc

    def close(self) -> None:
        """The stream belongs to the caller."""

    def _line(self, result: Result) -> str:
        reasons = " ".join(reason.value for reason in result.reasons)
        latency_ms = result.stages_us.get("total", 0.0) / 1e3
        line = f"{result.seq:6d}  {result.frame_id:<22} {self._verdict(result.verdict)} {_against_limit(result)}"
        line += f"  {latency_ms:8.1f} ms  {reasons}"
        return f"{line}  ({result.detail})" if result.detail else line

    def _verdict(self, verdict: Verdict) -> str:
        padded = f"{verdict.value:<7}"
        return f"{_COLOURS[verdict]}{padded}\033[0m" if self._colour else padded


def not_durable(result: Result, trouble: str, *warnings: Reason) -> Result:
    """What a part is whose OK was not on the disk in time. trouble: why, if that is known; warnings stand beside the reason."""
    detail = f"its OK was not on the disk in time{f': {trouble}' if trouble else ''}"
    reasons = dict.fromkeys((*result.reasons, *warnings))
    reasons.pop(Reason.SCORE_WITHIN_LIMIT, None)
    return replace(result, verdict=Verdict.UNKNOWN, reasons=(Reason.NOT_DURABLE, *reasons), detail=detail)


def held_up(result: Result) -> Result:
    """What a part is whose OK or NG was there in time, and could not be put out before its deadline."""
    beside = (reason for reason in result.reasons if reason not in _JUDGEMENTS)
    detail = "its verdict was there in time, and could not be put out before the deadline"
    return replace(result, verdict=Verdict.UNKNOWN, reasons=(Reason.DEADLINE, *beside), detail=detail)


def without_maps(result: Result) -> Result:
    """For records that may wait for long: pictures and maps must not wait with them."""
    return result if result.anomaly_map is None else replace(result, anomaly_map=None, good_patches=())


def _against_limit(result: Result) -> str:
    if result.score is None or result.threshold is None or result.p_value is None:
        return " " * 32
    sign = "≤" if result.score <= result.threshold else ">"
    return f"{result.score:9.4f} {sign} {result.threshold:<8.4f} p {result.p_value:<8.4f}"


def _seq_of(line: bytes) -> int | None:
    try:
        seq = json.loads(line)["seq"]
    except (ValueError, KeyError, TypeError):
        return None
    return seq if isinstance(seq, int) else None


def _seq_before_the_first(torn: bytes) -> int | None:
    """0 for a file that is empty or holds nothing but the beginning of our first record."""
    return 0 if torn.startswith(_RECORD_START[: len(torn)]) else None
