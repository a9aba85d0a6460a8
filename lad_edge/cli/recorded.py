"""What `run` wrote goes in: an outbox, JSON lines, or records beside their pictures; the records come out in the order they were made."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from lad_edge.cli.kept_parts import read_kept
from lad_edge.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Record = Mapping[str, Any]

RECORDS_HELP = "a file of --out sqlite:FILE or --out FILE.jsonl, or the folder of --out images:FOLDER"
_SQLITE = b"SQLite format 3\0"
_AT_ONCE = 1000


def read_records(path: Path) -> list[Record]:
    """With `late`: whether the engine said it after the deadline. Raises UsageError if there is nothing, DataError for other files."""
    if not path.exists():
        raise UsageError(f"{path} does not exist; give {RECORDS_HELP}")
    if path.is_dir():
        return [part.record for part in read_kept(path)]
    try:
        with path.open("rb") as file:
            is_outbox = file.read(len(_SQLITE)) == _SQLITE
        return list(_in_outbox(path) if is_outbox else _in_lines(path))
    except (sqlite3.Error, ValueError, KeyError, TypeError, OSError) as exc:
        raise DataError(f"{path}: no records of lad-edge can be read there: {exc}; give {RECORDS_HELP}") from exc


def pictures_beside(records: Path, pictures: Path | None) -> Path:
    """The folder of pictures, which may be that of the records. Raises UsageError."""
    found = pictures or (records if records.is_dir() else None)
    if found is None:
        raise UsageError("records hold no pictures: give the folder of --out images:FOLDER with --pictures")
    return found


def _in_outbox(path: Path) -> Iterator[Record]:
    from lad_edge.outputs.ledger import Reader

    with closing(Reader(path)) as reader:
        last = 0
        while stored := reader.after(last, _AT_ONCE):
            yield from ({**each.judged, "late": each.late is not None} for each in stored)
            last = stored[-1].id


def _in_lines(path: Path) -> Iterator[Record]:
    """A last line without its end is still being written."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                record = json.loads(line)
                int(record["seq"]), str(record["engine_sha256"])
                yield record
