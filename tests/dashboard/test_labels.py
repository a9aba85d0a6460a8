"""What an operator says is on the disk as a whole line, or the operator is told that it is not."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lad_edge.dashboard.labels import FILE_NAME, Labels
from lad_edge.dashboard.messages import pack

RECORD = {"seq": 1, "frame_id": "f", "part_id": "p", "verdict": "NG", "utc_ns": 0, "detail": "x" * 300}
PART = pack({"camera": "tray", "record": RECORD})


@contextmanager
def files_end_at(size_bytes: int) -> Iterator[None]:
    """As a full disk does it: the write that meets the end takes what fits, and says nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_half_a_line_keeps_the_lines_before_it_and_the_operator_is_told(tmp_path: Path) -> None:
    labels, file = Labels(str(tmp_path)), tmp_path / FILE_NAME
    labels.add("false_reject", PART)
    size_bytes = file.stat().st_size
    with files_end_at(size_bytes + 100), pytest.raises(OSError, match="File too large"):
        labels.add("false_reject", PART)
    assert file.stat().st_size == size_bytes
    labels.add("false_reject", PART)
    assert [json.loads(line)["seq"] for line in file.read_text().splitlines()] == [1, 1]
