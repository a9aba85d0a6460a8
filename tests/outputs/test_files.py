"""Records in files: whole lines, each once, no formula, on a full disk too."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from outbox_samples import RESULT, fill, fill_disk, frame, open_outbox, quiet, results, stored
from waiting import until

from lad_edge.errors import UsageError
from lad_edge.outputs.address import parse
from lad_edge.outputs.delivery import Delivery, DeliveryError
from lad_edge.outputs.files import FileOutput, Format, JsonLines, Table
from lad_edge.outputs.ledger import Stored
from lad_edge.outputs.outbox import Outbox
from lad_edge.values import Result

SMALL_DISK = "1m"

DAY_NS = 86_400_000_000_000


def records(outbox: Outbox, *some: Result) -> list[Stored]:
    for result in some:
        outbox.write(frame(), result)
    assert outbox.flush(30)
    return stored(outbox.path)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("scheme", "lines"), [("csv", Table()), ("jsonl", JsonLines())])
def test_a_record_that_the_cursor_forgot_is_not_written_twice(
    tmp_path: Path, outbox: Outbox, scheme: str, lines: Format
) -> None:
    """The crash between the file and the cursor: after it the same records come again."""
    path = tmp_path / f"parts.{scheme}"
    some = records(outbox, *results(1, 9))
    for batch in (some[:6], some[3:]):
        output = FileOutput(parse(f"{scheme}:{path}"), lines)
        output.deliver(batch)
        output.close()
    rows = table(path) if scheme == "csv" else [json.loads(line) for line in path.read_text().splitlines()]
    assert [int(row["seq"]) for row in rows] == list(range(1, 10))


def test_a_line_that_a_crash_left_half_written_is_cut_and_written_again(tmp_path: Path, outbox: Outbox) -> None:
    path = tmp_path / "parts.jsonl"
    some = records(outbox, *results(1, 4))
    path.write_text(f"{some[0].line}\n{some[1].line[:40]}")
    output = FileOutput(parse(f"jsonl:{path}"), JsonLines())
    output.deliver(some)
    output.close()
    assert path.read_text() == "".join(f"{record.line}\n" for record in some)


def test_a_dated_path_begins_a_new_file_each_day(tmp_path: Path, outbox: Outbox) -> None:
    some = records(
        outbox, *(replace(result, utc_ns=result.utc_ns + result.seq * DAY_NS // 2) for result in results(1, 4))
    )
    output = FileOutput(parse(f"csv:{tmp_path}/%Y/%m-%d.csv"), Table())
    output.deliver(some)
    output.close()
    files = sorted((tmp_path / "2025").iterdir())
    assert [file.name for file in files] == ["11-25.csv", "11-26.csv"]
    assert [[row["seq"] for row in table(file)] for file in files] == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(tmp_path: Path, outbox: Outbox, text: str) -> None:
    path = tmp_path / "parts.csv"
    output = FileOutput(parse(f"csv:{path}"), Table())
    output.deliver(records(outbox, replace(RESULT, frame_id=text, detail=f"{text}\n=2", score=-0.5)))
    output.close()
    (row,) = table(path)
    assert row["frame_id"].startswith("'")
    assert row["detail"].startswith("'")
    assert row["score"] == "-0.5"
    assert path.read_text().count("\n") == 2


def test_a_table_has_one_head_and_is_readable_by_anybody(tmp_path: Path, outbox: Outbox) -> None:
    path = tmp_path / "parts.csv"
    for first in (1, 4):
        output = FileOutput(parse(f"csv:{path}"), Table())
        output.deliver(records(outbox, *results(first, first + 2))[first - 1 :])
        output.close()
    rows = table(path)
    assert [row["seq"] for row in rows] == list("123456")
    assert rows[0]["utc"] == "2025-11-24T16:00:00.000+00:00"
    assert rows[0]["reasons"] == "STRUCTURAL_ABOVE_LIMIT"
    assert rows[0]["total_ms"] == "1.234"


def test_a_full_disk_leaves_no_half_line_and_the_rest_comes_later(
    small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outbox = open_outbox(tmp_path_factory.mktemp("elsewhere") / "r.sqlite")
    path, ballast = small_disk / "parts.jsonl", small_disk / "ballast"
    delivery = Delivery(outbox, FileOutput(parse(f"jsonl:{path}"), JsonLines()), quiet)
    delivery.start()
    fill(outbox, 1, 5)
    until(delivery.drained)
    fill_disk(ballast)
    fill(outbox, 6, 300)
    until(lambda: delivery.health().state == "broken")
    assert "No space left" in delivery.health().detail
    assert path.read_text().endswith("\n")
    ballast.unlink()
    until(delivery.drained)
    assert delivery.stop()
    outbox.close()
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == list(range(1, 301))


@pytest.mark.parametrize(("scheme", "lines"), [("csv", Table()), ("jsonl", JsonLines())])
def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path, scheme: str, lines: Format) -> None:
    path = tmp_path / "precious"
    path.write_text("precious, without a line end")
    with pytest.raises(DeliveryError, match="no result file"):
        FileOutput(parse(f"{scheme}:{path}"), lines)
    assert path.read_text() == "precious, without a line end"


def test_two_processes_cannot_write_one_file(tmp_path: Path) -> None:
    first = FileOutput(parse(f"csv:{tmp_path / 'x.csv'}"), Table())
    with pytest.raises(DeliveryError, match="another process"):
        FileOutput(parse(f"csv:{tmp_path / 'x.csv'}"), Table())
    first.close()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        FileOutput(parse(f"csv:{tmp_path}"), Table())
