"""Records to files: JSON lines, or a table for a spreadsheet. The path may hold a date, such as parts/%Y-%m-%d.csv (UTC)."""

from __future__ import annotations

import csv
import io
import json
from contextlib import closing
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lad_edge.errors import UsageError
from lad_edge.outputs.appended import AppendedFile
from lad_edge.outputs.delivery import DeliveryError
from lad_edge.outputs.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lad_edge.outputs.address import Address
    from lad_edge.outputs.ledger import Stored

_KEY = ("device_id", "camera_id", "boot_id", "seq")
_COLUMNS = (
    *("seq", "utc", "verdict", "reasons", "score", "threshold", "p_value", "structural_score", "logical_score"),
    *(
        "part_id",
        "frame_id",
        "findings",
        "detail",
        "total_ms",
        "device_id",
        "camera_id",
        "boot_id",
        "engine_sha256",
        "frame_sha256",
    ),
)
_FORMULA_STARTS = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "＝",
    "＋",
    "－",
    "＠",
)  # the wide ones too: some spreadsheets fold them


class Format(Protocol):
    """How a record becomes one line of a file, and which record a line is."""

    signature: bytes  # how every file of this kind begins
    header: bytes  # the first line of a new one

    def line(self, record: Stored, /) -> str:
        """With its line end."""

    def key(self, line: str, /) -> tuple[str, ...]:
        """device, camera, boot, seq of a line; empty when it is none of ours."""


class JsonLines:
    """The record as it stands in the outbox."""

    signature, header = b'{"seq":', b""

    def line(self, record: Stored) -> str:
        """The JSON of the record."""
        return f"{record.line}\n"

    def key(self, line: str) -> tuple[str, ...]:
        """Read from its fields."""
        try:
            return _key(json.loads(line))
        except (ValueError, KeyError, TypeError):
            return ()


class Table:
    """One row for each record, RFC 4180. Text that a spreadsheet would run as a formula gets an apostrophe (reliability.md B12)."""

    signature = header = f"{','.join(_COLUMNS)}\r\n".encode()

    def line(self, record: Stored) -> str:
        """A row; line ends inside a cell become blanks, so that a row is a line."""
        row = io.StringIO()
        csv.writer(row, lineterminator="\r\n").writerow(_cell(value) for value in _values(record.record))
        return row.getvalue()

    def key(self, line: str) -> tuple[str, ...]:
        """Read from its cells."""
        cells = dict(zip(_COLUMNS, next(csv.reader([line]), []), strict=False))
        return tuple(cells[name] for name in _KEY) if set(_KEY) <= set(cells) else ()


class FileOutput:
    """An output (delivery.py). A record that a crash left in the file, but not in the cursor, is not written twice.

    `rotate=100MB` begins a new file beyond that size, `quota=2GB` deletes the oldest ones (rotation.py).
    """

    slowest_retry_s = 5.0

    def __init__(self, address: Address, lines: Format) -> None:
        """A file without a date in its name is opened at once. Raises UsageError, DeliveryError."""
        self.name, self._path, self._format = address.name, address.path, lines
        if Path(self._path).is_dir():
            raise UsageError(f"{self.name}: is a folder; name a file, such as {address.path}/parts.{address.scheme}")
        self._rotation = Rotation(address, lines.signature)
        self._file: AppendedFile | None = None
        self._last: tuple[str, ...] = ()
        if "%" not in self._path:
            self._open(Path(self._path))

    def adopt(self, address: Address) -> None:
        """Other limits for the same file, from the next record on. Raises UsageError."""
        self._rotation = Rotation(address, self._format.signature)

    def open(self) -> None:
        """Nothing: the date of the first record says which file."""

    def deliver(self, records: Sequence[Stored]) -> None:
        """Appends all. Raises DeliveryError with how many stand in earlier files."""
        done = 0
        for path, same in groupby(records, lambda record: _dated(self._path, record.record["utc_ns"])):
            group = list(same)
            try:
                self._append(path, group)
            except DeliveryError as exc:
                raise DeliveryError(str(exc), done) from exc
            done += len(group)

    def idle(self) -> None:
        """Nothing to keep alive."""

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, path: Path, records: Iterable[Stored]) -> None:
        file = self._open(path)
        lines = "".join(self._format.line(record) for record in records if not self._written(record))
        if lines:
            self._room(file).append(lines.encode())

    def _room(self, file: AppendedFile) -> AppendedFile:
        """The same file, or a new one in its place when it is full."""
        if not self._rotation.is_full(file.path):
            return file
        self.close()
        self._rotation.rotate(file.path)
        return self._open(file.path)

    def _open(self, path: Path) -> AppendedFile:
        if self._file is None or self._file.path != path:
            self.close()
            self._file = AppendedFile(path, self._format.signature, self._format.header)
            self._last = self._format.key(self._last_line(self._file))
            self._rotation.tidy(path)
        return self._file

    def _last_line(self, file: AppendedFile) -> str:
        """Of the file, or of the one that became full before it: a crash may have come between the two."""
        if file.last_line and file.last_line.encode() != self._format.header.rstrip(b"\n"):
            return file.last_line
        full = self._rotation.newest_before(file.path)
        if full is None:
            return ""
        with closing(AppendedFile(full, self._format.signature)) as before:
            return before.last_line

    def _written(self, record: Stored) -> bool:
        """True for records of the same start up to the one that was last in the file when it was opened."""
        key = _key(record.record)
        return key[:-1] == self._last[:-1] and int(key[-1]) <= int(self._last[-1])


def _dated(path: str, utc_ns: int) -> Path:
    return Path(datetime.fromtimestamp(utc_ns / 1e9, timezone.utc).strftime(path))


def _key(record: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(record[name]) for name in _KEY)


def _values(record: dict[str, Any]) -> list[object]:
    moment = datetime.fromtimestamp(record["utc_ns"] / 1e9, timezone.utc).isoformat(timespec="milliseconds")
    total_us = record["stages_us"].get("total")
    derived = {
        "utc": moment,
        "reasons": " ".join(record["reasons"]),
        "findings": "; ".join(record["findings"]),
        "total_ms": None if total_us is None else round(total_us / 1e3, 3),
    }
    return [derived[name] if name in derived else record[name] for name in _COLUMNS]


def _cell(value: object) -> object:
    """Numbers stay numbers, also negative ones; None becomes an empty cell."""
    if not isinstance(value, str):
        return value
    text = " ".join(value.splitlines())
    return f"'{text}" if value.lstrip().startswith(_FORMULA_STARTS) or value.startswith(_FORMULA_STARTS) else text
