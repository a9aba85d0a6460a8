"""`--ok-when durable`: no OK is put out that a power cut could take back, and a disk that is slow or full holds up no verdict."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from outbox_samples import RESULT, WAIT_S, fill_disk, frame, open_outbox, results, stored
from scripted import CollectingSink, ScriptedSource
from scripted import frame as captured
from tiny import good_picture, spotted_picture
from waiting import until

from lad_edge.errors import SinkError
from lad_edge.inspector import Inspector, Options
from lad_edge.outputs.ledger import verify
from lad_edge.outputs.outbox import Outbox
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.triggers import OnDemand
from lad_edge.values import Reason, Result, Verdict

SMALL_DISK = "1m"
OK = replace(RESULT, verdict=Verdict.OK, reasons=(Reason.SCORE_WITHIN_LIMIT,))


@contextmanager
def blocked(path: Path) -> Iterator[None]:
    """The disk answers no commit while the block runs."""
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


def said(path: Path) -> list[tuple[int, str, str]]:
    """Number, verdict and first reason of all that is on the disk."""
    return [(one.record["seq"], one.record["verdict"], one.record["reasons"][0]) for one in stored(path)]


def test_an_ok_is_on_the_disk_when_it_is_given(outbox: Outbox) -> None:
    for seq in range(1, 21):
        assert outbox.write_durable(frame(), replace(OK, seq=seq), soon(WAIT_S)).verdict is Verdict.OK
        assert said(outbox.path)[-1] == (seq, "OK", "SCORE_WITHIN_LIMIT")


def test_an_ok_that_the_disk_has_not_taken_in_time_is_unknown_in_time_and_in_the_record(outbox: Outbox) -> None:
    """It was written already, and waited for its commit; no output ever sees it."""
    outbox.write(frame(), results(1, 1)[0])
    assert outbox.flush(WAIT_S)
    commits, reader = outbox.health().commits, outbox.reader()
    with blocked(outbox.path):
        given = outbox.write_durable(frame(), replace(OK, seq=2), soon(0.05))
    assert (given.verdict, given.reasons) == (Verdict.UNKNOWN, (Reason.NOT_DURABLE,))
    assert given.score == OK.score
    seen = []
    until(lambda: seen.extend(reader.after(1, 10)) or seen)
    reader.close()
    assert {(one.record["seq"], one.record["verdict"]) for one in seen} == {(2, "UNKNOWN")}
    assert outbox.flush(WAIT_S)
    assert outbox.health().commits == commits + 2
    assert said(outbox.path)[1:] == [(2, "UNKNOWN", "NOT_DURABLE")]
    assert verify(outbox.path) == 2


def test_while_the_disk_is_full_parts_are_unknown_at_once_and_ok_again_afterwards(small_disk: Path) -> None:
    outbox = open_outbox(small_disk / "r.sqlite")
    fill_disk(small_disk / "ballast")
    given, seq = OK, 0
    while given.verdict is Verdict.OK:  # what is left of the file's last page
        seq += 1
        given = outbox.write_durable(frame(), replace(OK, seq=seq), soon(WAIT_S))
    assert given.reasons == (Reason.NOT_DURABLE, Reason.DISK_LOW)
    assert "full" in given.detail
    (small_disk / "ballast").unlink()
    until(lambda: outbox.health().codes == ())
    assert outbox.write_durable(frame(), replace(OK, seq=seq + 1), soon(WAIT_S)).verdict is Verdict.OK
    outbox.close()
    assert said(small_disk / "r.sqlite")[seq - 1 :] == [
        (seq, "UNKNOWN", "NOT_DURABLE"),
        (seq + 1, "OK", "SCORE_WITHIN_LIMIT"),
    ]
    assert verify(small_disk / "r.sqlite") == seq + 1


def pictures(count: int) -> list[object]:
    """Every third one is bad."""
    return [captured(spotted_picture(i) if i % 3 == 2 else good_picture(i), f"p{i}") for i in range(count)]


@pytest.fixture
def inspector(open_inspector: Callable[..., Inspector]) -> Inspector:
    return open_inspector(Options(maps_for=frozenset()))


def test_other_sinks_get_an_ok_after_the_disk(inspector: Inspector, outbox: Outbox) -> None:
    def on_the_disk(result: Result) -> None:
        if result.verdict is Verdict.OK:
            assert said(outbox.path)[-1] == (result.seq, "OK", "SCORE_WITHIN_LIMIT")

    sink = CollectingSink(before=on_the_disk)
    source = ScriptedSource(pictures(9), live=False)
    Line(source, inspector, [sink, outbox], LineOptions(ok_when="durable")).run()
    assert [result.verdict for result in sink.results] == [Verdict.OK, Verdict.OK, Verdict.NG] * 3
    assert outbox.flush(WAIT_S)
    assert [verdict for _, verdict, _ in said(outbox.path)] == ["OK", "OK", "NG"] * 3


def test_a_disk_that_does_not_answer_makes_parts_unknown_for_everybody(inspector: Inspector, outbox: Outbox) -> None:
    sink = CollectingSink()
    source = ScriptedSource(pictures(3), live=False)
    line = Line(source, inspector, [outbox, sink], LineOptions(ok_when="durable", deadline_ms=300))
    with blocked(outbox.path):
        line.run()
    assert outbox.flush(WAIT_S)
    expected = [("UNKNOWN", "NOT_DURABLE"), ("UNKNOWN", "NOT_DURABLE"), ("NG", "STRUCTURAL_ABOVE_LIMIT")]
    assert [(result.verdict.value, result.reasons[0].value) for result in sink.results] == expected
    assert [words for _, *words in said(outbox.path)] == [list(pair) for pair in expected]
    assert line.stats.verdicts[Verdict.OK] == 0


def test_who_asked_for_a_part_hears_what_was_put_out(inspector: Inspector, outbox: Outbox) -> None:
    sink = CollectingSink()
    options = LineOptions(trigger=OnDemand, ok_when="durable", deadline_ms=300)
    line = Line(ScriptedSource([], live=True), inspector, [outbox, sink], options)
    part = line.parts.trigger("tray-1")
    assert part is not None
    line.parts.add(captured(good_picture(0)))
    line.parts.settle(part, replace(OK, seq=1))
    assert line.parts.result_of(part, 0.0) is None  # it is judged, and not put out yet
    with blocked(outbox.path):
        line._write_settled()
    told = line.parts.result_of(part, 0.0)
    assert told is not None
    assert told.reasons == (Reason.NOT_DURABLE,)


def test_an_outbox_that_has_failed_ends_the_line_and_its_last_part_is_unknown(
    inspector: Inspector, tmp_path: Path
) -> None:
    outbox, sink = open_outbox(tmp_path / "r.sqlite"), CollectingSink()
    outbox._fail("scripted: the outbox is damaged")
    line = Line(ScriptedSource(pictures(1), live=False), inspector, [outbox, sink], LineOptions(ok_when="durable"))
    with pytest.raises(SinkError, match="is damaged"):
        line.run()
    assert [result.reasons for result in sink.results] == [(Reason.NOT_DURABLE,)]
    with pytest.raises(SinkError):
        outbox.close()
