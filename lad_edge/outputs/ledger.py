"""The file of the outbox: SQLite, one connection that writes, readers that only read.

`records` holds one row for each part, oldest first:

    id         rises by one with each record; cursors count in it
    record     the JSON line that every output delivers, byte for byte
    running_s  seconds that the outbox had been running, over all starts, when the record was stored
    chain      sha256 of the chain before it and the record: a row that was changed or taken out breaks it

    late       the JSON of what the engine said of the part after its deadline (reason LATE_RESULT), NULL for nearly all;
               the record stays UNKNOWN, and no output delivers this

and columns that SQLite reads out of `record`, so that they cannot differ from it: device_id, camera_id, boot_id, seq (the
key, unique), part_id, frame_id, captured_ns, utc_ns, verdict, reasons, score, p_value, threshold, engine_sha256, config_sha256,
frame_sha256, versions, stages_us. `cursors` holds the id up to which each output has acknowledged; `meta` the chain before
the oldest row, and the running time.

Written with WAL and synchronous=FULL: what is committed survives a power cut (reliability.md §2). SQLite before 3.51.3 can
damage a file that two connections write or checkpoint, so that exactly one may: a lock file keeps a second process out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import sqlite3
import sys
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lad_edge.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lad_edge.stream.records import Origin

_APPLICATION_ID = 0x4C414445  # "LADE"
_FORMAT = 1
_OLDEST_SQLITE = (3, 31, 0)  # with generated columns
_MAGIC = b"SQLite format 3\0"
_SIDE_FILES = ("-wal", "-shm")
_WAL_LIMIT_BYTES = 64 << 20
_CHUNK = 1024  # rows that one transaction of the retention deletes
_KEY = ("device_id", "camera_id", "boot_id", "seq")
_FROM_RECORD = (
    *_KEY,
    *("part_id", "frame_id", "captured_ns", "utc_ns", "verdict", "reasons", "score", "p_value", "threshold"),
    *("engine_sha256", "config_sha256", "frame_sha256", "versions", "stages_us"),
)
_COLUMNS = ", ".join(f"{name} AS (json_extract(record, '$.{name}')) VIRTUAL" for name in _FROM_RECORD)
_TABLES = (
    "CREATE TABLE records (id INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT NOT NULL, running_s REAL NOT NULL, "
    f"chain BLOB NOT NULL, late TEXT, {_COLUMNS})",
    f"CREATE UNIQUE INDEX records_key ON records ({', '.join(_KEY)})",
    "CREATE TABLE cursors (output TEXT PRIMARY KEY, acknowledged INTEGER NOT NULL)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_FORMAT}",
)
_INSERT = (
    "INSERT INTO records (id, record, running_s, chain) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (device_id, camera_id, boot_id, seq) DO NOTHING"
)
_IS_OF = " AND ".join(f"{name} = json_extract(:late, '$.{name}')" for name in _KEY)
_SET_LATE = f"UPDATE records SET late = :late WHERE {_IS_OF}"  # noqa: S608 - the names stand above


@dataclass(frozen=True)
class Stored:
    """A record as it stands in the outbox. line: its JSON without a line end; late: of what came after its deadline."""

    id: int
    line: str
    running_s: float
    late: str | None = None

    @cached_property
    def record(self) -> dict[str, Any]:
        """The record's fields (stream/records.py)."""
        fields: dict[str, Any] = json.loads(self.line)
        return fields

    @cached_property
    def judged(self) -> dict[str, Any]:
        """What the engine said of the part: the record, or what came after its deadline."""
        fields: dict[str, Any] = self.record if self.late is None else json.loads(self.late)
        return fields

    @property
    def key(self) -> str:
        """device/camera/boot/seq: equal for two deliveries of one record, and for nothing else."""
        return "/".join(str(self.record[name]) for name in _KEY)


@dataclass(frozen=True)
class Retention:
    """What is kept: the newest records within `max_bytes` of file, and none older than `max_age_s`; inf = no such limit.

    Ages are counted while the outbox runs, because a wall clock that jumps must not delete anything (reliability.md F13).
    """

    max_bytes: float = math.inf
    max_age_s: float = math.inf


class Ledger:
    """The connection that writes. One thread may use it at a time."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises SinkError when it is somebody else's, or another process has it.

        A damaged file is set aside as `NAME.bad-N`, and `set_aside` names it.
        """
        self.path = path
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise SinkError(f"the outbox needs SQLite 3.31 or newer; this Python has {sqlite3.sqlite_version}")
        self._lock = _lock(path)
        self.set_aside: Path | None = None
        self.last_id, self.first_id = 0, 1
        self.running_s, self._chain = 0.0, b""
        self._appended = 0, b""  # last_id and chain, once it is published
        with ExitStack() as if_it_fails:
            if_it_fails.callback(os.close, self._lock)
            self._open()
            if_it_fails.pop_all()

    def append(
        self, lines: Sequence[str], running_s: float, cursors: Mapping[str, int], late: Sequence[str] = ()
    ) -> None:
        """One transaction: all of it is on the disk afterwards, or none. Raises sqlite3.Error.

        A record whose key is there already stays as it is. Until `publish`, another call puts other records in the place of these.
        late: JSON of late results, each beside the record of its part if that is still there.
        """
        last_id, chain = self.last_id, self._chain
        with self._transaction() as connection:
            connection.execute("DELETE FROM records WHERE id > ?", (last_id,))
            for line in lines:
                link = _link(chain, line)
                if connection.execute(_INSERT, (last_id + 1, line, running_s, link)).rowcount:
                    last_id, chain = last_id + 1, link
            connection.executemany(_SET_LATE, [{"late": line} for line in late])
            connection.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?)", cursors.items())
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('running_s', ?)", (running_s,))
        self._appended = last_id, chain

    def publish(self) -> None:
        """What was appended stands: `last_id` names it."""
        self.last_id, self._chain = self._appended

    def trim(self, retention: Retention, running_s: float) -> int:
        """Deletes a bounded number of the oldest records beyond the retention; how many. The last one always stays."""
        end = max(self._end_by_size(retention.max_bytes), self._end_by_age(retention.max_age_s, running_s))
        end = min(end, self.last_id - 1)
        chain = self._value("SELECT chain FROM records WHERE id <= ? ORDER BY id DESC LIMIT 1", end)
        if chain is None:
            return 0
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('chain_before', ?)", (chain,))
            return connection.execute("DELETE FROM records WHERE id <= ?", (end,)).rowcount

    def last_seq(self, origin: Origin) -> int:
        """The highest seq of this camera, 0 when it has no record."""
        where = "WHERE device_id = ? AND camera_id = ?"
        found = self._value(
            f"SELECT seq FROM records {where} ORDER BY id DESC LIMIT 1",  # noqa: S608 - no word of it comes from outside
            origin.device_id,
            origin.camera_id,
        )
        return int(found or 0)

    def cursors(self) -> dict[str, int]:
        """Output → the id up to which it has acknowledged."""
        return dict(self._connection.execute("SELECT output, acknowledged FROM cursors"))

    def condemn(self) -> None:
        """Sets the damaged file aside; nothing but `close` may follow. Raises OSError."""
        self._connection.close()
        _set_aside(self.path)

    def close(self) -> None:
        """Moves everything from the WAL into the file and lets go of it."""
        try:
            self._connection.close()
        finally:
            os.close(self._lock)

    def _open(self) -> None:
        try:
            self._begin()
        except sqlite3.OperationalError as exc:
            raise SinkError(f"the outbox {self.path} does not open: {exc}; check folder, rights and space") from exc
        except sqlite3.DatabaseError:
            self.set_aside = _set_aside(self.path)
            self._begin()

    def _begin(self) -> None:
        self._connection = _connect(self.path)
        try:
            self.last_id = self._value("SELECT seq FROM sqlite_sequence WHERE name = 'records'") or 0
            self.first_id = self._value("SELECT min(id) FROM records") or self.last_id + 1
            self.running_s = self._value("SELECT value FROM meta WHERE name = 'running_s'") or 0.0
            self._chain = self._value("SELECT chain FROM records ORDER BY id DESC LIMIT 1") or b""
        except sqlite3.Error:
            self._connection.close()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:  # whatever it was: half a transaction must not stay open
            with suppress(sqlite3.Error):  # a full disk may have rolled back already
                self._connection.execute("ROLLBACK")
            raise

    def _value(self, query: str, *values: object) -> Any:
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else row[0]

    def _end_by_size(self, max_bytes: float) -> int:
        pages = self._value("PRAGMA page_count") - self._value("PRAGMA freelist_count")
        if pages * self._value("PRAGMA page_size") <= max_bytes:
            return 0
        return self._value(f"SELECT max(id) FROM (SELECT id FROM records ORDER BY id LIMIT {_CHUNK})") or 0  # noqa: S608

    def _end_by_age(self, max_age_s: float, running_s: float) -> int:
        oldest = f"(SELECT id, running_s FROM records ORDER BY id LIMIT {_CHUNK})"  # noqa: S608
        return self._value(f"SELECT max(id) FROM {oldest} WHERE running_s < ?", running_s - max_age_s) or 0  # noqa: S608


class Reader:
    """Reads committed records while another connection writes. For one thread; its reads are short."""

    def __init__(self, path: Path, last_id: Callable[[], int] = lambda: sys.maxsize) -> None:
        """last_id: of the records that may be read by now, asked before each reading."""
        self._last_id = last_id
        self._connection = sqlite3.connect(_uri(path, "ro"), uri=True, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA query_only = ON")

    def after(self, last_id: int, limit: int) -> list[Stored]:
        """Up to `limit` records behind that id, in order."""
        rows = self._connection.execute(
            "SELECT id, record, running_s, late FROM records WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (last_id, self._last_id(), limit),
        ).fetchall()
        return [Stored(*row) for row in rows]

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def verify(path: Path) -> int:
    """Reads everything and follows the chain; the number of records. Raises SinkError with the first place that is wrong."""
    with closing(sqlite3.connect(_uri(path, "ro"), uri=True, isolation_level=None)) as connection:
        report = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if report != "ok":
            raise SinkError(f"{path} is damaged: {report}; move it away, a new one is made at the next start")
        before = connection.execute("SELECT value FROM meta WHERE name = 'chain_before'").fetchone()
        chain, count = before[0] if before else b"", 0
        for row_id, line, stored in connection.execute("SELECT id, record, chain FROM records ORDER BY id"):
            chain, count = _link(chain, line), count + 1
            if chain != stored:
                raise SinkError(f"{path}: record {row_id} or the one before it was changed or taken out")
        return count


def _connect(path: Path) -> sqlite3.Connection:
    _refuse_other_files(path)
    connection = sqlite3.connect(_uri(path, "rwc"), uri=True, isolation_level=None, check_same_thread=False)
    with ExitStack() as if_it_fails:
        if_it_fails.callback(connection.close)
        for setting in ("journal_mode = WAL", "synchronous = FULL", f"journal_size_limit = {_WAL_LIMIT_BYTES}"):
            connection.execute(f"PRAGMA {setting}")
        _make_tables(path, connection)
        if_it_fails.pop_all()
    _sync_folder(path.parent)
    return connection


def _make_tables(path: Path, connection: sqlite3.Connection) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables == 0:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("COMMIT")
    elif application != _APPLICATION_ID:
        raise SinkError(f"{path} exists and is no outbox of lad-edge; choose another file: --out sqlite:FILE")
    elif (found := connection.execute("PRAGMA user_version").fetchone()[0]) != _FORMAT:
        raise SinkError(f"{path} has format {found}, this version writes {_FORMAT}; choose another file")
    elif "late" not in {name for _, name, *_ in connection.execute("PRAGMA table_info(records)")}:
        connection.execute("ALTER TABLE records ADD COLUMN late TEXT")  # a file from before there was one


def _refuse_other_files(path: Path) -> None:
    """Text, pictures and the like stay untouched; zeros are what a power cut may leave of our own file."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise SinkError(f"the outbox {path} does not open: {exc.strerror}; choose another file") from exc
    if start and start != _MAGIC and start.strip(b"\0"):
        raise SinkError(f"{path} exists and is no outbox of lad-edge; choose another file: --out sqlite:FILE")


def _lock(path: Path) -> int:
    """An open descriptor that holds the lock; the kernel frees it however the process ends."""
    name = f"{path}.lock"
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise SinkError(f"the outbox {path} does not open: {exc.strerror}; choose another folder") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise SinkError(
            f"the outbox {path} is written by process {holder or 'unknown'}; stop it, or give each camera its own: "
            "--out 'sqlite:{camera}.sqlite'"
        ) from exc
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _set_aside(path: Path) -> Path:
    number = next(n for n in range(1, 10_000) if not Path(f"{path}.bad-{n}").exists())
    moved = Path(f"{path}.bad-{number}")
    for suffix in ("", *_SIDE_FILES):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{moved}{suffix}")
    return moved


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(chain: bytes, line: str) -> bytes:
    return hashlib.sha256(chain + line.encode()).digest()


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.absolute()))}?mode={mode}"
