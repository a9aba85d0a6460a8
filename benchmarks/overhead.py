"""What a line costs beside its engine: python -m benchmarks.overhead.

A driver process delivers pictures of 1280×1024 bgr8 through shared memory, an engine that costs nothing judges them, records go to the
SQLite outbox and to JSON lines. First a picture every 10 ms: how long from its capture until every sink has its result, and until it is on
the disk. Then with the next picture always ready: parts a second. A round counts only if each part has its record in both places, the
chain of the outbox is whole and nothing was dropped.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.harness import Contest, Timing, finish, options, show, start
from benchmarks.line_devices import until
from benchmarks.plc import Inside, NullInspector
from benchmarks.ring import open_memory
from lad_edge.outputs.ledger import verify
from lad_edge.outputs.outbox import Limits, Outbox
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.records import Origin
from lad_edge.stream.sinks import JsonlSink
from lad_edge.values import Frame, Result

_PERIOD_S, _PARTS, _SKIPPED = 0.01, 500, 50
_SUSTAINED = 1500  # parts
_LIMIT_S = 120.0


class Captured(Inside):
    """The last of the sinks: as `Inside`, and when each picture was captured."""

    def __init__(self) -> None:
        super().__init__()
        self.captured_ns: list[int] = []

    def write(self, frame: Frame, result: Result) -> None:
        """All sinks before this one have it."""
        super().write(frame, result)
        self.captured_ns.append(frame.captured_ns)

    def parts_per_s(self) -> float:
        """Over all but the first."""
        ends_s = (np.array(self.captured_ns) + 1e3 * np.array(self.samples_us)) / 1e9
        return float((ends_s.size - 1 - _SKIPPED) / (ends_s[-1] - ends_s[_SKIPPED]))


@dataclass
class Round:
    """µs from the capture of each part until all sinks had its result, and until its record was on the disk."""

    sinks_us: list[float] = field(default_factory=list)
    disk_us: list[float] = field(default_factory=list)
    parts_per_s: float = 0.0
    unhashed: int = 0  # records without the sha256 of their picture, which is left out where it would hold up the disk


def main() -> None:
    """Rounds in turns, in a folder of the current directory: that is the disk that is judged."""
    arguments = options(__doc__ or "").parse_args()
    pace = start(arguments)
    paced, sustained = [], []
    with tempfile.TemporaryDirectory(dir=".", prefix="overhead-") as folder:
        for number in range(pace.rounds):
            paced.append(one_round(Path(folder) / f"paced-{number}", _PERIOD_S, _PARTS))
            sustained.append(one_round(Path(folder) / f"sustained-{number}", 0.0, _SUSTAINED))
    contests = [_paced(paced), _sustained(sustained)]
    for contest in contests:
        show(contest)
    finish(arguments, contests)


def one_round(folder: Path, period_s: float, parts: int) -> Round:
    """folder: is made. period_s: between two pictures, 0 = always ready. Raises AssertionError for a part without its records."""
    folder.mkdir()
    found, last, ended = Round(), Captured(), threading.Event()
    outbox = Outbox(folder / "line.sqlite", Origin("box", "camera0", "boot"), print, Limits(reserve_bytes=0))
    sinks = [outbox, JsonlSink(folder / "line.jsonl"), last]
    line = Line(open_memory(period_s), NullInspector(), sinks, LineOptions("all", stop=ended.is_set))  # type: ignore[arg-type]
    thread = threading.Thread(target=line.run)
    with closing(outbox), _watching_disk(outbox, last, found):
        thread.start()
        assert until(lambda: len(last.samples_us) >= parts, _LIMIT_S)
        ended.set()
        thread.join()
        assert outbox.flush(_LIMIT_S)
        found.unhashed = outbox.health().unhashed
    found.sinks_us, found.parts_per_s = last.samples_us, last.parts_per_s()
    _check(folder, line, outbox)
    return found


@contextmanager
def _watching_disk(outbox: Outbox, written: Captured, found: Round) -> Iterator[None]:
    """Sees each commit as the outputs do."""
    ended = threading.Event()

    def watch() -> None:
        seen = 0
        while outbox.wait_beyond(seen, 0.2, lambda: False) or not ended.is_set():
            now_ns, newest = time.monotonic_ns(), outbox.last_id
            found.disk_us += [(now_ns - captured_ns) / 1e3 for captured_ns in written.captured_ns[seen:newest]]
            seen = newest

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _check(folder: Path, line: Line, outbox: Outbox) -> None:
    parts = line.stats.parts
    assert line.parts.dropped == 0, line.stats.table(line.parts.dropped)
    assert verify(outbox.path) == parts == line.parts.triggered
    assert len((folder / "line.jsonl").read_bytes().splitlines()) == parts


def _paced(rounds: list[Round]) -> Contest:
    title = f"from capture, a picture of 1280×1024 every {1e3 * _PERIOD_S:g} ms"
    timings = [
        _timing("all sinks have the result", [each.sinks_us[_SKIPPED:] for each in rounds]),
        _timing("the record is on the disk", [each.disk_us[_SKIPPED:] for each in rounds]),
    ]
    return Contest(title, tuple(timings))


def _sustained(rounds: list[Round]) -> Contest:
    timing = _timing("all sinks have the result", [each.sinks_us[_SKIPPED:] for each in rounds])
    rates = ", ".join(f"{each.parts_per_s:.0f} ({each.unhashed})" for each in rounds)
    note = f"parts/s of the rounds (records without a hash): {rates}"
    return Contest("the next picture always ready", (timing,), notes={timing.name: note})


def _timing(name: str, rounds: list[list[float]]) -> Timing:
    """All parts of all rounds."""
    samples = np.concatenate([np.array(each) for each in rounds])
    p50, p95, p99 = np.percentile(samples, (50, 95, 99))
    return Timing(name, float(p50), float(p95), float(p99), float(samples.max()), samples.size, len(rounds))


if __name__ == "__main__":
    main()
