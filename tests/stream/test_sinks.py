"""Sinks on real files, pipes and full disks: whole records or none, and what was written stays."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import frame

from lad_edge.errors import SinkError
from lad_edge.stream.records import to_json_line, to_record
from lad_edge.stream.sinks import ConsoleSink, JsonlSink, PipeSink
from lad_edge.values import Reason, Region, Result, Verdict

SMALL_DISK = "64k"

NO_FRAME = frame(None)
RESULT = Result(
    seq=1,
    frame_id="part-1",
    verdict=Verdict.NG,
    reasons=(Reason.STRUCTURAL_ABOVE_LIMIT,),
    captured_ns=5,
    utc_ns=6,
    score=0.5,
    threshold=0.25,
    p_value=0.01,
    structural_score=0.75,
    logical_score=0.25,
    regions=(Region(1, 2, 3, 4, 5, 0.5, 2, 3),),
    stages_us={"infer": 1234.56},
    engine_sha256="ab",
)
FIELDS = [
    *("seq", "frame_id", "part_id", "captured_ns", "utc_ns", "verdict", "reasons", "score", "p_value", "threshold"),
    *("structural_score", "logical_score", "regions", "findings", "detail", "moved_px", "roi_px"),
    *("stages_us", "engine_sha256"),
]


def lines(path: Path) -> list[dict[str, object]]:
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_the_record_has_its_fields_in_their_order() -> None:
    assert list(to_record(RESULT)) == FIELDS
    record = json.loads(to_json_line(RESULT))
    assert record["verdict"] == "NG"
    assert record["regions"][0]["peak_x_px"] == 2
    assert record["stages_us"] == {"infer": 1234.6}


def test_nan_is_refused_because_json_has_none() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        to_json_line(replace(RESULT, score=float("nan")))


def test_a_line_end_inside_an_id_stays_inside_its_record() -> None:
    assert to_json_line(replace(RESULT, frame_id='a\nb"{')).count("\n") == 1


@pytest.mark.parametrize("sync", ["record", "close"])
def test_each_record_is_in_the_file_before_the_next(tmp_path: Path, sync: str) -> None:
    path = tmp_path / "r.jsonl"
    sink = JsonlSink(path, sync)
    for seq in (1, 2, 3):
        sink.write(NO_FRAME, replace(RESULT, seq=seq))
        assert [record["seq"] for record in lines(path)] == list(range(1, seq + 1))
    sink.close()


def test_a_second_run_appends_and_numbering_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for first in (1, 3):
        sink = JsonlSink(path)
        assert sink.next_seq == first
        sink.write(NO_FRAME, replace(RESULT, seq=first))
        sink.write(NO_FRAME, replace(RESULT, seq=first + 1))
        sink.close()
    assert [record["seq"] for record in lines(path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("kept", [0, 1, 2])
@pytest.mark.parametrize("torn", [1, 5, 8, 60])
def test_a_record_that_a_crash_left_half_written_is_cut(tmp_path: Path, kept: int, torn: int) -> None:
    path, line = tmp_path / "r.jsonl", to_json_line(RESULT)
    path.write_text(line * kept + line[:torn])
    sink = JsonlSink(path)
    sink.write(NO_FRAME, replace(RESULT, seq=sink.next_seq))
    sink.close()
    assert len(lines(path)) == kept + 1


@pytest.mark.parametrize("text", ["hello\n", "{}\n", '{"seq": "x"}\n', "[1]\n", "no line end", '{"seq":1}\ngarbage\n'])
def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "precious.txt"
    path.write_text(text)
    with pytest.raises(SinkError, match="no result file"):
        JsonlSink(path)
    assert path.read_text() == text


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "r.jsonl")
    with pytest.raises(SinkError, match="another process"):
        JsonlSink(tmp_path / "r.jsonl")
    sink.close()
    JsonlSink(tmp_path / "r.jsonl").close()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file or directory"):
        JsonlSink(tmp_path / "nowhere" / "r.jsonl")
    with pytest.raises(SinkError, match="Is a directory"):
        JsonlSink(tmp_path)


def test_a_full_device_is_an_error_with_a_remedy() -> None:
    sink = JsonlSink(Path("/dev/full"))
    with pytest.raises(SinkError, match="after 0 records, which are kept; free space"):
        sink.write(NO_FRAME, RESULT)
    sink.close()


def test_a_disk_that_fills_up_keeps_whole_records_only(small_disk: Path) -> None:
    """A short write takes the first part of a record without any error: it must not stay (reliability.md F8)."""
    path = small_disk / "r.jsonl"
    sink = JsonlSink(path)
    with pytest.raises(SinkError, match="No space left on device"):
        write_many(sink)
    with pytest.raises(SinkError):  # and again: no half record appears later either
        sink.write(NO_FRAME, replace(RESULT, seq=9999, frame_id="x" * 3000))
    sink.close()
    seqs = [record["seq"] for record in lines(path)]
    assert seqs == list(range(1, sink.records + 1))
    assert len(seqs) > 10


def write_many(sink: JsonlSink) -> None:
    for seq in range(1, 10_000):
        sink.write(NO_FRAME, replace(RESULT, seq=seq, frame_id="x" * 777))


def test_a_file_size_limit_keeps_whole_records_only(tmp_path: Path) -> None:
    """The same fault without the right to mount: in a process of its own, since the limit is for all its files."""
    path, size = tmp_path / "r.jsonl", 5000
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from test_sinks import *\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        "sink = JsonlSink(Path(sys.argv[1]))\n"
        "for seq in range(1, 1000): sink.write(NO_FRAME, replace(RESULT, seq=seq))\n"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path), *folders], capture_output=True, text=True, timeout=120, check=False
    )
    assert "SinkError" in ended.stderr
    assert "File too large" in ended.stderr
    assert [record["seq"] for record in lines(path)] == list(range(1, len(lines(path)) + 1))
    assert resource.RLIMIT_FSIZE is not None


def test_a_pipe_without_reader_is_an_error_not_a_signal() -> None:
    reader, writer = os.pipe()
    sink = PipeSink(writer)
    sink.write(NO_FRAME, RESULT)
    assert json.loads(os.read(reader, 1 << 16))["seq"] == 1
    os.close(reader)
    with pytest.raises(SinkError, match="after 1 records"):
        sink.write(NO_FRAME, RESULT)
    os.close(writer)


def test_a_line_for_a_person_shows_verdict_numbers_and_reasons() -> None:
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    sink.write(NO_FRAME, RESULT)
    unknown = replace(
        RESULT, verdict=Verdict.UNKNOWN, reasons=(Reason.DROPPED,), score=None, p_value=None, detail="why"
    )
    sink.write(NO_FRAME, unknown)
    first, second = stream.getvalue().splitlines()
    assert first.split() == [
        "1",
        "part-1",
        "NG",
        "0.5000",
        ">",
        "0.2500",
        "p",
        "0.0100",
        "0.0",
        "ms",
        "STRUCTURAL_ABOVE_LIMIT",
    ]
    assert second.endswith("DROPPED  (why)")
    assert "\033[" not in first
