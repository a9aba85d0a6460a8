"""SIGHUP under way: outputs come, change and go, and every part is written once to each that is named at that moment."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from background import running, wait_for
from waiting import until

from lad_edge.outputs.ledger import verify

WAIT_S = 60.0


class Line:
    """A line whose configuration the test rewrites while it runs."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.bundle, self.folder = bundle, folder
        self.config = folder / "line.toml"
        self.process: subprocess.Popen[str] | None = None

    def tell(self, *outs: str, more: str = "") -> None:
        self.config.write_text(
            f'engine = "{self.bundle}"\nsource = "pattern://64x48?fps=100"\nquiet = true\nout = {json.dumps(outs)}\n{more}'
        )

    def reload(self, answer: str) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        wait_for(self.process, answer)

    def end(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0

    def path(self, name: str) -> Path:
        return self.folder / name

    def seqs(self, name: str) -> list[int]:
        return [json.loads(line)["seq"] for line in self.path(name).read_text().splitlines()]


@pytest.fixture
def line(tiny_bundle: Path, tmp_path: Path) -> Line:
    return Line(tiny_bundle, tmp_path)


@contextmanager
def started(line: Line) -> Iterator[None]:
    with running("run", "-c", line.config) as process:
        line.process = process
        wait_for(process, "self-test passed")
        yield


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_an_output_that_comes_and_goes_has_each_part_of_its_time_once(line: Line) -> None:
    outbox, first, second = (
        f"{kind}:{line.path(name)}" for kind, name in (("sqlite", "r.sqlite"), ("jsonl", "a"), ("jsonl", "b"))
    )
    line.tell(outbox, first)
    with started(line):
        until(lambda: lines_of(line.path("a")) > 10)
        line.tell(outbox, first, second)
        line.reload("from the next part on")
        until(lambda: lines_of(line.path("b")) > 10)
        line.tell(outbox, second)
        line.reload("from the next part on")
        until(lambda: lines_of(line.path("b")) > 50)
        line.tell(outbox, first, second)
        line.reload("from the next part on")
        until(lambda: lines_of(line.path("a")) > 60)
        line.end()
    all_of_them, rest = line.seqs("a"), line.seqs("b")
    assert all_of_them == list(range(1, len(all_of_them) + 1))  # also those of the time in which it was not named
    assert rest == list(range(rest[0], all_of_them[-1] + 1))
    assert rest[0] > 10
    assert verify(line.path("r.sqlite")) == len(all_of_them)


def test_files_and_pictures_that_the_line_writes_itself_are_exchanged_between_two_parts(line: Line) -> None:
    one, two = (str(line.path(name)) for name in ("one.jsonl", "two.jsonl"))
    images = f"images:{line.path('pictures')}?ok=1&min-free=0B"
    line.tell(one)
    with started(line):
        until(lambda: lines_of(line.path("one.jsonl")) > 10)
        line.tell(two, images)
        line.reload("from the next part on")
        until(lambda: lines_of(line.path("two.jsonl")) > 10)
        line.end()
    before, after = line.seqs("one.jsonl"), line.seqs("two.jsonl")
    assert before + after == list(range(1, len(before) + len(after) + 1))
    kept = sorted(int(path.name[:12]) for path in line.path("pictures").rglob("*.json"))
    assert kept[0] == after[0]
    assert len(list(line.path("pictures").rglob("*.map.png"))) >= len(kept) - 2  # the engine gives maps a moment later


def test_an_outbox_that_knows_more_parts_raises_the_numbers(line: Line) -> None:
    outbox, plain = f"sqlite:{line.path('r.sqlite')}", str(line.path("r.jsonl"))
    line.tell(outbox)
    with started(line):
        until(lambda: line.path("r.sqlite").exists())
        time.sleep(0.5)
        line.end()
    stored = verify(line.path("r.sqlite"))
    line.tell(plain)
    with started(line):
        until(lambda: lines_of(line.path("r.jsonl")) > 2)
        line.tell(plain, outbox)
        line.reload("from the next part on")
        until(lambda: line.seqs("r.jsonl")[-1] > stored)
        line.end()
    seqs = line.seqs("r.jsonl")
    assert seqs == sorted(set(seqs))
    assert verify(line.path("r.sqlite")) > stored


@pytest.mark.parametrize("bad", ["mqqt://host/x", "sqlite:/nowhere/r.sqlite", "images:pictures?ok=often"])
def test_an_output_that_cannot_be_meant_is_refused_and_the_old_ones_go_on(line: Line, bad: str) -> None:
    line.tell(str(line.path("r.jsonl")))
    with started(line):
        line.tell(f"csv:{line.path('new.csv')}", bad)
        line.reload("reload refused, everything goes on as it was")
        count = lines_of(line.path("r.jsonl"))
        until(lambda: lines_of(line.path("r.jsonl")) > count + 5)
        line.end()
    seqs = line.seqs("r.jsonl")
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_receiver_that_moves_gets_what_the_old_one_had_not(line: Line) -> None:
    outbox = f"sqlite:{line.path('r.sqlite')}?reserve=0B"
    with hook() as (port, posted):
        dead = "http://127.0.0.1:1/hook?from=start"
        line.tell(outbox, dead)
        with started(line):
            time.sleep(0.5)
            line.tell(outbox, f"http://127.0.0.1:{port}/hook?from=start")
            line.reload("records wait in the outbox; they go out when it is named again")
            until(lambda: len(posted) > 30)
            line.end()
    assert posted == list(range(1, len(posted) + 1))


def test_records_say_which_configuration_they_were_judged_under(line: Line) -> None:
    outbox, table = f"sqlite:{line.path('r.sqlite')}", f"jsonl:{line.path('r')}"
    line.tell(outbox, table)
    with started(line):
        until(lambda: lines_of(line.path("r")) > 5)
        line.tell(outbox, table, more="threshold = -1000.0\n")
        line.reload("judges from the next part on")
        count = lines_of(line.path("r"))
        until(lambda: lines_of(line.path("r")) > count + 20)
        line.end()
    records = [json.loads(text) for text in line.path("r").read_text().splitlines()]
    configurations = list(dict.fromkeys(record["config_sha256"] for record in records))
    assert len(configurations) == 2
    assert {record["threshold"] for record in records if record["config_sha256"] == configurations[1]} == {-1000.0}
    assert records[-1]["boot_id"] == records[0]["boot_id"]


def test_a_file_and_a_folder_of_pictures_adopt_other_limits(line: Line) -> None:
    outbox, records, pictures = (f"{kind}:{line.path(kind)}" for kind in ("sqlite", "jsonl", "images"))
    line.tell(outbox, records, f"{pictures}?min-free=0B")
    with started(line):
        until(lambda: lines_of(line.path("jsonl")) > 5)
        line.tell(outbox, f"{records}?rotate=2kB&quota=10kB", f"{pictures}?min-free=0B&quota=20kB")
        line.reload("from the next part on")
        until(lambda: any(int(path.suffix[1:]) > 4 for path in line.folder.glob("jsonl.0*")))
        line.tell(outbox, f"{records}?quota=10kB", f"{pictures}?min-free=0B&quota=20kB")
        line.reload("reload refused")
        line.end()
    assert sum(path.stat().st_size for path in line.folder.glob("jsonl*")) < 14_000
    assert sum(path.stat().st_size for path in line.path("images").rglob("*.*")) < 20_000


def test_another_outbox_needs_a_restart_and_says_so(line: Line) -> None:
    line.tell(f"sqlite:{line.path('r.sqlite')}")
    with started(line):
        line.tell(f"sqlite:{line.path('other.sqlite')}")
        line.reload("taken over by a restart alone: the outbox")
        line.end()
    assert not line.path("other.sqlite").exists()


@contextmanager
def hook() -> Iterator[tuple[int, list[int]]]:
    """A receiver: its port, and the numbers that were posted to it."""
    posted: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["seq"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1], posted
        server.shutdown()
