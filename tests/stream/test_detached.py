"""A sink whose reader stalls: the line goes on, order and records stay, and what failed is told."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from scripted import CollectingSink, ScriptedSource, fail_at, frame
from tiny import good_picture

from lad_edge.errors import SinkError
from lad_edge.inspector import Inspector, Options
from lad_edge.stream.detached import Detached
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.sinks import PipeSink
from lad_edge.values import Reason, Result, Verdict

WAIT_S = 20.0


def result(seq: int) -> Result:
    return Result(seq, f"p{seq}", Verdict.OK, (Reason.SCORE_WITHIN_LIMIT,), 0, 0, score=0.1)


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes no more byte: reader, writer."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b" " * 4096)
    os.set_blocking(writer, True)
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


def read_lines(descriptor: int, count: int) -> list[dict[str, object]]:
    text = b""
    while text.count(b"\n") < count:
        text += os.read(descriptor, 1 << 16)
    return [json.loads(line) for line in text.splitlines()]


def test_a_reader_that_stalls_holds_up_no_verdict_and_has_all_records_afterwards(
    open_inspector: Callable[..., Inspector], full_pipe: tuple[int, int]
) -> None:
    reader, writer = full_pipe
    pipe, plc = Detached(PipeSink(writer), "standard output", wait_when_full=False), CollectingSink()
    source = ScriptedSource([frame(good_picture(i), f"p{i}") for i in range(6)], live=True)
    line = Line(source, open_inspector(Options()), [pipe, plc], LineOptions(queue="all", deadline_ms=10_000.0))
    line.run()
    assert [r.verdict for r in plc.results] == [Verdict.OK] * 6
    assert not pipe.flush(0.01)
    assert [record["seq"] for record in read_lines(reader, 6)] == plc.seqs
    pipe.close()


def test_a_reader_that_is_behind_is_told_and_what_finds_no_room_is_counted() -> None:
    release = threading.Event()
    slow = CollectingSink(lambda _: release.wait(WAIT_S))  # type: ignore[arg-type, return-value]
    pipe = Detached(slow, "standard output", wait_when_full=False, most_waiting=3)
    for seq in range(1, 6):
        pipe.write(frame(good_picture(0)), result(seq))
    limit_s = time.monotonic() + WAIT_S
    while pipe.health().codes != ("SINK_BEHIND",):
        assert time.monotonic() < limit_s
        time.sleep(0.01)
    assert (pipe.health().waiting, pipe.health().lost) == (3, 2)
    assert "2 records found no room" in pipe.health().detail
    release.set()
    pipe.close()
    assert slow.seqs == [1, 2, 3]
    assert pipe.health().codes == ()
    assert all(one.image is None for one in slow.frames)


def test_a_recorded_source_is_held_back_and_nothing_is_left_out() -> None:
    slow = CollectingSink(lambda _: time.sleep(0.005))
    pipe = Detached(slow, "standard output", wait_when_full=True, most_waiting=2)
    for seq in range(1, 11):
        pipe.write(frame(None), result(seq))
    assert pipe.flush(WAIT_S)
    assert slow.seqs == list(range(1, 11))
    pipe.close()


@pytest.mark.parametrize("wait_when_full", [False, True])
def test_a_sink_that_fails_is_told_to_the_line(wait_when_full: bool) -> None:
    failing = CollectingSink(fail_at(2))
    pipe = Detached(failing, "standard output", wait_when_full=wait_when_full, most_waiting=2)
    pipe.write(frame(None), result(1))
    pipe.write(frame(None), result(2))
    pipe.flush(0.2)
    with pytest.raises(SinkError, match="record 2"):
        pipe.write(frame(None), result(3))
    with pytest.raises(SinkError, match="record 2"):
        pipe.close()
    assert failing.seqs == [1]


def test_a_fault_in_the_code_of_a_sink_does_not_end_its_thread_unheard() -> None:
    def fall_over(_result: Result) -> None:
        raise KeyError("scripted")

    pipe = Detached(CollectingSink(fall_over), "standard output", wait_when_full=False)
    pipe.write(frame(None), result(1))
    with pytest.raises(SinkError, match="standard output broke down: KeyError"):
        pipe.close()
