"""The outbox on real disks: what is acknowledged is there, whatever ends the process or fills the disk."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outbox_samples import (
    ORIGIN,
    PICTURE,
    RESULT,
    WAIT_S,
    fill,
    fill_disk,
    frame,
    open_outbox,
    quiet,
    results,
    seqs,
    stored,
)
from waiting import until

from lad_edge.errors import SinkError
from lad_edge.outputs.ledger import Retention, verify
from lad_edge.outputs.outbox import Limits, Outbox
from lad_edge.values import Reason, Result, Verdict

SMALL_DISK = "1m"
_WRITER = """\
import os, sys; sys.path[:0] = [sys.argv[2]]
import random, resource, signal, time
from pathlib import Path; from outbox_samples import *
def write(report, boot_id, patience_s=60):
    outbox = open_outbox(Path(sys.argv[1]), boot_id=boot_id)
    for seq in range(outbox.next_seq, 10**6):
        outbox.write(frame(), results(seq, seq)[0])
        if seq % 5 == 0:
            assert outbox.flush(patience_s)
            os.write(report, f"{seq}\\n".encode())
"""
_KILLED = f"""\
{_WRITER}
chance, acknowledged = random.Random(7), 0
for boot in range(50):
    reader, report = os.pipe()
    child = os.fork()
    if not child:
        write(report, f"boot-{{boot}}")
    os.close(report)
    time.sleep(chance.uniform(0.0, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = max([acknowledged, *map(int, os.fdopen(reader).read().rpartition("\\n")[0].split())])
    print(acknowledged, len(stored(Path(sys.argv[1]))) if acknowledged else 0, flush=True)
"""
_LIMITED = f"""\
{_WRITER}
resource.setrlimit(resource.RLIMIT_FSIZE, ({1 << 20}, {1 << 20}))
write(1, "boot", patience_s=2)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


def test_what_is_flushed_is_on_the_disk_in_order_and_whole(path: Path) -> None:
    outbox = open_outbox(path)
    fill(outbox, 1, 300)
    assert seqs(stored(path)) == list(range(1, 301))  # while the writer is open
    outbox.close()
    assert verify(path) == 300


def test_a_record_names_its_key_and_what_a_replay_needs(path: Path) -> None:
    outbox = open_outbox(path)
    outbox.write(frame(PICTURE), RESULT)
    outbox.close()
    record = stored(path)[0]
    assert record.key == "box-1/camera0/boot-a/1"
    assert record.record["frame_sha256"] == hashlib.sha256(PICTURE.tobytes()).hexdigest()
    assert record.record["config_sha256"] == ORIGIN.config_sha256
    assert record.record["versions"] == {"lad_edge": "0.1.0"}
    row = sqlite3.connect(path).execute("SELECT seq, verdict, score, camera_id, frame_sha256 FROM records").fetchone()
    assert row == (1, "NG", 0.5, "camera0", record.record["frame_sha256"])


def test_a_record_names_the_configuration_of_the_moment_at_which_it_was_handed_over(path: Path) -> None:
    outbox = open_outbox(path)
    with outbox._changed:  # the writer waits
        outbox.write(frame(), RESULT)
        outbox.origin = replace(outbox.origin, config_sha256="after")
        outbox.write(frame(), replace(RESULT, seq=2))
    outbox.close()
    assert [record.record["config_sha256"] for record in stored(path)] == [ORIGIN.config_sha256, "after"]


def test_numbering_goes_on_over_restarts_and_each_camera_has_its_own(path: Path) -> None:
    for first, boot_id in ((1, "a"), (4, "b")):
        outbox = open_outbox(path, boot_id)
        assert outbox.next_seq == first
        fill(outbox, first, first + 2)
        outbox.close()
    other = Outbox(path, replace(ORIGIN, camera_id="camera1"), quiet, Limits(reserve_bytes=0))
    assert other.next_seq == 1
    other.close()


def test_a_record_that_comes_twice_is_stored_once(path: Path) -> None:
    outbox = open_outbox(path)
    fill(outbox, 1, 3)
    fill(outbox, 2, 4)
    outbox.close()
    assert seqs(stored(path)) == [1, 2, 3, 4]
    assert verify(path) == 4


def test_a_score_that_json_cannot_say_is_null_and_its_record_stays(path: Path) -> None:
    outbox = open_outbox(path)
    outbox.write(frame(), replace(RESULT, score=float("nan"), verdict=Verdict.UNKNOWN))
    outbox.close()
    assert stored(path)[0].record["score"] is None


def test_a_file_name_that_is_no_text_is_stored(path: Path) -> None:
    outbox = open_outbox(path)
    outbox.write(frame(), replace(RESULT, frame_id=os.fsdecode(b"part-\xff.png")))
    outbox.close()
    assert stored(path)[0].record["frame_id"] == os.fsdecode(b"part-\xff.png")


def test_cursors_survive_and_a_new_output_has_none(path: Path) -> None:
    outbox = open_outbox(path)
    fill(outbox, 1, 3)
    outbox.acknowledge("mqtt", 2)
    outbox.close()
    outbox = open_outbox(path)
    assert outbox.cursor("mqtt") == 2
    assert outbox.cursor("csv") is None
    outbox.close()


def test_a_process_killed_50_times_loses_nothing_that_was_acknowledged(path: Path) -> None:
    """G1 in small: kill -9 at any moment, also within a commit and an opening. The killer is single-threaded, and forks."""
    ended = run_program(_KILLED, path)
    counts = [tuple(map(int, line.split())) for line in ended.stdout.splitlines()]
    assert len(counts) == 50, ended.stderr
    assert all(acknowledged <= kept for acknowledged, kept in counts)
    found = seqs(stored(path))
    assert found == list(range(1, len(found) + 1))
    assert verify(path) == counts[-1][1] > 50


def test_the_killer_finds_records_that_were_acknowledged_too_early(path: Path) -> None:
    """The control of the test above: it must fail for a writer that acknowledges what it has only handed over."""
    hasty = _KILLED.replace("assert outbox.flush(patience_s)", "").replace("range(50)", "range(10)")
    counts = [tuple(map(int, line.split())) for line in run_program(hasty, path).stdout.splitlines()]
    assert any(acknowledged > kept for acknowledged, kept in counts)


def run_program(program: str, path: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", program, str(path), str(Path(__file__).parent)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def test_a_second_process_is_told_who_has_the_file(path: Path) -> None:
    outbox = open_outbox(path)
    with pytest.raises(SinkError, match=f"is written by process {os.getpid()}"):
        open_outbox(path)
    outbox.close()
    open_outbox(path).close()


@pytest.mark.parametrize("content", [b"precious text\n", b"\x89PNG\r\n"])
def test_a_file_of_somebody_else_is_not_touched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SinkError, match="is no outbox"):
        open_outbox(path)
    assert path.read_bytes() == content


def test_a_database_of_somebody_else_is_not_touched(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(SinkError, match="is no outbox"):
        open_outbox(path)


@pytest.mark.parametrize("damage", [bytes(8192), b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_outbox_is_set_aside_and_a_new_one_is_begun(path: Path, damage: bytes) -> None:
    """A power cut on a bad disk may leave zeros (eclipse-mosquitto/mosquitto#2639)."""
    path.write_bytes(damage)
    heard: list[str] = []
    outbox = Outbox(path, ORIGIN, heard.append, Limits(reserve_bytes=0))
    fill(outbox, 1, 2)
    outbox.close()
    assert path.with_name("results.sqlite.bad-1").read_bytes() == damage
    assert "was damaged" in heard[0]
    assert verify(path) == 2


def test_damage_that_shows_at_work_sets_the_file_aside_and_the_next_start_begins_anew(path: Path) -> None:
    fill_and_close(open_outbox(path), 2000)
    content = bytearray(path.read_bytes())
    content[2 * 4096 : -4096] = b"\xa5" * (len(content) - 3 * 4096)
    path.write_bytes(content)
    heard: list[str] = []
    outbox = Outbox(path, ORIGIN, heard.append, Limits(reserve_bytes=0))
    outbox.write(frame(), results(2001, 2001)[0])
    outbox.flush(WAIT_S)
    if not heard:  # the opening did not touch what is damaged: writing did
        with pytest.raises(SinkError, match=r"is damaged .*; start again"):
            outbox.close()
        outbox = open_outbox(path)
    fill(outbox, 3000, 3001)
    outbox.close()
    assert path.with_name("results.sqlite.bad-1").read_bytes()[3 * 4096 :][:4] == b"\xa5" * 4
    assert seqs(stored(path))[-2:] == [3000, 3001]


@pytest.mark.parametrize(
    "change",
    ["UPDATE records SET record = replace(record, 'NG', 'OK')", "DELETE FROM records"],
)
def test_a_changed_or_missing_record_breaks_the_chain(path: Path, change: str) -> None:
    outbox = open_outbox(path)
    fill(outbox, 1, 9)
    outbox.close()
    other = sqlite3.connect(path)
    other.execute(f"{change} WHERE id = 4")
    other.commit()
    other.close()
    with pytest.raises(SinkError, match="was changed or taken out"):
        verify(path)


def test_the_oldest_records_go_when_the_quota_is_reached_and_the_chain_stays(path: Path) -> None:
    outbox = open_outbox(path, retention=Retention(max_bytes=1 << 20))
    for first in range(1, 6000, 500):
        fill(outbox, first, first + 499)
    until(lambda: stored(path)[0].id > 2000)
    outbox.close()
    found = seqs(stored(path))
    assert found == list(range(found[0], 6001))
    assert verify(path) == len(found)
    assert path.stat().st_size < 4 << 20


def test_records_older_than_the_age_limit_go_and_the_last_one_stays(path: Path) -> None:
    fill_and_close(open_outbox(path), 50)
    outbox = open_outbox(path, retention=Retention(max_age_s=0.0))
    outbox.write(frame(), results(51, 51)[0])
    until(lambda: seqs(stored(path)) == [51])
    outbox.close()
    assert verify(path) == 1


def fill_and_close(outbox: Outbox, last: int) -> None:
    fill(outbox, 1, last)
    outbox.close()


def test_a_full_disk_delays_no_verdict_and_loses_no_record(small_disk: Path) -> None:
    path, ballast = small_disk / "r.sqlite", small_disk / "ballast"
    outbox = open_outbox(path, reserve_bytes=128 << 10)
    fill(outbox, 1, 10)
    for _ in range(2):
        fill_disk(ballast)
        first = outbox.health().stored + 1
        for result in results(first, first + 299):
            outbox.write(frame(), result)  # returns at once, whatever the disk does
        until(lambda: "DISK_LOW" in outbox.health().codes)
        ballast.unlink()
        assert outbox.flush(WAIT_S)
        until(lambda: outbox.health().codes == ())  # the reserve is there again too
    outbox.close()
    assert seqs(stored(path)) == list(range(1, 611))
    assert verify(path) == 610


def test_a_file_that_is_blocked_delays_no_verdict(path: Path) -> None:
    """As a disk that does not answer for seconds (reliability.md F9): what is handed over waits, and nobody else does."""
    outbox = open_outbox(path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    write_many(outbox, 100)
    assert not outbox.flush(0.2)
    assert stored(path) == []
    assert outbox.health().waiting == 100
    blocker.execute("ROLLBACK")
    blocker.close()
    assert outbox.flush(WAIT_S)
    outbox.close()
    assert verify(path) == 100


def test_a_disk_that_stays_full_stops_the_line_when_memory_is_used_up(small_disk: Path) -> None:
    outbox = open_outbox(small_disk / "r.sqlite", waiting=20)
    fill_disk(small_disk / "ballast")
    with pytest.raises(SinkError, match="records wait for the disk"):
        write_many(outbox, 10_000)
    with pytest.raises(SinkError):
        outbox.close()


def test_records_that_are_lost_are_counted_when_the_line_shall_go_on(small_disk: Path) -> None:
    outbox = open_outbox(small_disk / "r.sqlite", waiting=20, when_full="continue")
    fill_disk(small_disk / "ballast")
    write_many(outbox, 2000)
    health = outbox.health()
    assert health.lost + health.waiting + health.stored == 2000
    assert "NOT_DURABLE" in health.codes
    (small_disk / "ballast").unlink()
    assert outbox.flush(WAIT_S)
    outbox.close()


def write_many(outbox: Outbox, last: int) -> None:
    for result in results(1, last):
        outbox.write(frame(), result)


def test_a_limit_on_the_size_of_files_loses_no_acknowledged_record(path: Path) -> None:
    """The same fault without the right to mount: in a process of its own, since the limit is for all its files."""
    ended = run_program(_LIMITED, path)
    acknowledged = int(ended.stdout.split()[-1])
    assert "AssertionError" in ended.stderr
    assert acknowledged > 50
    assert seqs(stored(path))[:acknowledged] == list(range(1, acknowledged + 1))


def test_only_a_few_pictures_wait_in_memory(path: Path) -> None:
    outbox = open_outbox(path)
    with outbox._changed:  # the writer stands still
        for result in results(1, 20):
            outbox.write(frame(PICTURE), replace(result, anomaly_map=np.zeros((4, 4), np.float32)))
        assert sum(job.image is not None for job in outbox._waiting) == 8
        assert all(job.result.anomaly_map is None for job in outbox._waiting)
    outbox.close()
    hashes = [json.loads(record.line)["frame_sha256"] for record in stored(path)]
    assert hashes.count(None) == outbox.health().unhashed == 12


def late(seq: int) -> Result:
    return replace(results(seq, seq)[0], reasons=(*RESULT.reasons, Reason.LATE_RESULT))


def test_what_came_after_its_deadline_stands_beside_the_record_and_changes_nothing(path: Path) -> None:
    outbox = open_outbox(path)
    unknown = results(1, 2, verdict=Verdict.UNKNOWN, reasons=(Reason.DEADLINE,), score=None)
    outbox.write(frame(), unknown[0])
    outbox.write_late(late(1))
    outbox.write(frame(), unknown[1])
    assert outbox.flush(WAIT_S)
    assert outbox.health().stored == 2
    outbox.close()
    first, second = stored(path)
    assert (first.record["verdict"], first.record["score"]) == ("UNKNOWN", None)
    assert (first.judged["verdict"], first.judged["score"]) == ("NG", 0.5)
    assert first.judged["reasons"][-1] == "LATE_RESULT"
    assert second.late is None
    assert verify(path) == 2


def test_a_late_result_whose_part_is_no_longer_kept_is_no_record(path: Path) -> None:
    outbox = open_outbox(path)
    fill(outbox, 1, 2)
    outbox.write_late(late(7))
    outbox.close()
    assert [(record.id, record.late) for record in stored(path)] == [(1, None), (2, None)]


def test_a_file_from_before_there_were_late_results_takes_them(path: Path) -> None:
    fill_and_close(open_outbox(path), 2)
    with closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE records DROP COLUMN late")
    outbox = open_outbox(path)
    outbox.write_late(late(2))
    outbox.close()
    assert [record.late is None for record in stored(path)] == [True, False]
    assert verify(path) == 2
