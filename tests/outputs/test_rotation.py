"""Files that are full get numbers, the oldest go, and no record is lost or written twice on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from outbox_samples import RESULT, frame, results, stored

from lad_edge.errors import UsageError
from lad_edge.outputs.address import parse
from lad_edge.outputs.files import FileOutput, JsonLines, Table
from lad_edge.outputs.ledger import Stored
from lad_edge.outputs.outbox import Outbox
from lad_edge.values import Result

DAY_NS = 86_400_000_000_000
Write = Callable[..., list[Stored]]


@pytest.fixture
def write(outbox: Outbox) -> Write:
    """Results as stored records."""

    def write(*some: Result) -> list[Stored]:
        for result in some:
            outbox.write(frame(), result)
        assert outbox.flush(30)
        return stored(outbox.path)

    return write


def seqs(*paths: Path) -> list[int]:
    return [json.loads(line)["seq"] for path in paths for line in path.read_text().splitlines()]


def numbered(folder: Path) -> list[Path]:
    return sorted(folder.glob("r.0*.jsonl"))


def test_full_files_are_numbered_and_hold_every_record_once(tmp_path: Path, write: Write) -> None:
    some = write(*results(1, 40))
    path, length = tmp_path / "r.jsonl", len(some[0].line) + 1
    output = FileOutput(parse(f"jsonl:{path}?rotate={4 * length}B"), JsonLines())
    for record in some:
        output.deliver([record])
    output.close()
    assert [file.name for file in numbered(tmp_path)][:2] == ["r.000001.jsonl", "r.000002.jsonl"]
    assert seqs(*numbered(tmp_path), path) == list(range(1, 41))
    assert max(file.stat().st_size for file in numbered(tmp_path)) < 6 * length


@pytest.mark.parametrize("lines", [JsonLines(), Table()])
def test_a_crash_between_the_full_file_and_the_next_one_writes_nothing_twice(
    tmp_path: Path, write: Write, lines: JsonLines | Table
) -> None:
    some, path = write(*results(1, 12)), tmp_path / "r.x"
    address = parse(f"csv:{path}?rotate=1B")
    first = FileOutput(address, lines)
    first.deliver(some[:8])
    first.close()
    path.rename(tmp_path / "r.000001.x")  # and there it ended: the cursor still says 4
    second = FileOutput(address, lines)
    second.deliver(some[4:])
    second.close()
    written = [line for file in (tmp_path / "r.000001.x", path) for line in file.read_bytes().splitlines(keepends=True)]
    assert [line for line in written if line != lines.header] == [lines.line(record).encode() for record in some]


def test_the_quota_deletes_the_oldest_and_leaves_what_is_no_file_of_this_name(tmp_path: Path, write: Write) -> None:
    some = write(*results(1, 60))
    path, length = tmp_path / "r.jsonl", len(some[0].line) + 1
    others = [tmp_path / "r.000001.jsonl.bak", tmp_path / "s.000001.jsonl", tmp_path / "r.000000.jsonl"]
    for other in others:
        other.write_text("mine\n")
    output = FileOutput(parse(f"jsonl:{path}?rotate={3 * length}B&quota={12 * length + 40}B"), JsonLines())
    for record in some:
        output.deliver([record])
    output.close()
    assert all(other.read_text() == "mine\n" for other in others)
    kept = [file for file in numbered(tmp_path) if file not in others]
    assert sum(file.stat().st_size for file in (*kept, path)) <= 12 * length + 40
    assert seqs(*kept, path) == list(range(seqs(kept[0])[0], 61))
    assert len(kept) >= 2


def test_older_dates_go_before_newer_ones_whatever_the_order_in_the_name(tmp_path: Path, write: Write) -> None:
    days = [replace(RESULT, seq=1 + i, utc_ns=RESULT.utc_ns + i * 10 * DAY_NS) for i in range(9)]
    some = write(*days)
    length = len(some[0].line) + 1
    output = FileOutput(parse(f"jsonl:{tmp_path}/%m/%d-%Y.jsonl?quota={8 * length}B"), JsonLines())
    output.deliver(some)
    output.close()
    kept = sorted(seq for file in tmp_path.rglob("*.jsonl") for seq in seqs(file))
    assert kept == list(range(kept[0], 10))
    assert 3 <= len(kept) <= 6


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("jsonl:r.jsonl?quota=1GB", "add rotate=100MB, or a date"),
        ("jsonl:r-%j.jsonl?quota=1GB", "came %j"),
        ("jsonl:r.jsonl?rotate=much", "a size such as 20GB"),
    ],
)
def test_limits_that_cannot_be_meant(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FileOutput(parse(address.replace("jsonl:", f"jsonl:{tmp_path}/")), JsonLines())
