"""What an operator says of a part goes in; a line of JSON, the record with it and the picture as it was shown, comes out in a folder.

`labels.jsonl` has one object a line: `label` ("false_reject" or "missed"), `camera`, `seq`, `frame_id`, `part_id`, `labelled_utc_ns`,
`picture` (a file beside it, a JPEG of at most 960 px, or null) and `record`, the whole record of the part.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lad_edge.stream.records import safe_id
from lad_edge.stream.writing import write_all

if TYPE_CHECKING:
    from lad_edge.dashboard.messages import Message

LABELS = {"false_reject": ("NG", "UNKNOWN"), "missed": ("OK",)}  # and the verdicts that they can contradict
FILE_NAME = "labels.jsonl"
_MOST_BYTES = 1 << 30  # of one folder of labels: a button that is held down must not fill the disk


class Labels:
    """Appends; each line is on the disk before the operator is told so."""

    def __init__(self, folder: str) -> None:
        """Makes the folder. Raises OSError."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._used_bytes = sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def add(self, label: str, part: Message) -> dict[str, Any]:
        """The line that was written. Raises ValueError for a label that this part cannot have, OSError when the disk does not take it."""
        record = part.head["record"]
        if record["verdict"] not in LABELS.get(label, ()):
            raise ValueError(f"'{label}' cannot be said of a part that is {record['verdict']}")
        line = {
            "label": label,
            "camera": part.head["camera"],
            **{name: record[name] for name in ("seq", "frame_id", "part_id")},
            "labelled_utc_ns": time.time_ns(),
            "picture": self._keep_picture(label, part) if part.picture else None,
            "record": record,
        }
        self._write(FILE_NAME, os.O_APPEND, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        return line

    def _keep_picture(self, label: str, part: Message) -> str:
        record = part.head["record"]
        name = f"{safe_id(part.head['camera'] or 'line')}-{record['utc_ns']}-{record['seq']:012d}-{label}.jpg"
        self._write(name, os.O_TRUNC, part.picture)
        return name

    def _write(self, name: str, how: int, data: bytes) -> None:
        if self._used_bytes + len(data) > _MOST_BYTES:
            raise OSError(f"the labels in {self.folder} have reached {_MOST_BYTES >> 20} MiB; move them elsewhere")
        fd = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | how, 0o640)
        with open(fd, "wb", buffering=0):  # noqa: PTH123 - a descriptor
            _write_whole(fd, data)
        self._used_bytes += len(data)


def _write_whole(fd: int, data: bytes) -> None:
    """Behind what the file holds, to the disk, or not at all: half a line would swallow the next one. Raises OSError."""
    end = os.fstat(fd).st_size
    try:
        write_all(fd, data)
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, end)
        raise
