"""What keeping a record costs the line, and how fast the disk takes them: python -m benchmarks.outbox.

On the verdict path: `write` of one record every 5 ms, as parts come, of the outbox, also where an OK waits for the disk
(`--ok-when durable`), and of the sinks that write themselves, in turns. On the disk: records one by one, each flushed before
the next, and as many as come. Every record is read back and the chain is checked before a figure is shown.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.harness import Contest, Timing, finish, options, show, start
from lad_edge.outputs.ledger import verify
from lad_edge.outputs.outbox import Limits, Outbox
from lad_edge.stream.records import Origin
from lad_edge.stream.sinks import JsonlSink, Sink
from lad_edge.values import Frame, Reason, Region, Result, Verdict

_PERIOD_S = 0.005
_PARTS = 200  # in a round
_PATIENCE_S = 10.0
_ALONE, _TOGETHER = 500, 20_000
_PICTURE = np.random.default_rng(1).integers(0, 256, (1024, 1280, 3), np.uint8)
_RESULT = Result(
    seq=1,
    frame_id="camera0#1",
    verdict=Verdict.NG,
    reasons=(Reason.STRUCTURAL_ABOVE_LIMIT,),
    captured_ns=1,
    utc_ns=1,
    score=0.5123456789,
    threshold=0.25,
    p_value=0.01,
    structural_score=0.5123456789,
    logical_score=0.25,
    regions=tuple(Region(i, i, 40, 40, 900, 0.5, i, i) for i in range(4)),
    findings=("expected 11 to 14 patches of code 17 in cell B3, found 3",),
    stages_us={"wait": 20.0, "pre": 150.0, "infer": 3000.0, "post": 90.0, "total": 3260.0},
    engine_sha256="ab" * 32,
)
_ORIGIN = Origin("box", "camera0", "boot", "cd" * 32, {"lad_edge": "0", "runtime": "openvino"})


def main() -> None:
    """Measures in a folder of the current directory: that is the disk that is judged."""
    arguments = options(__doc__ or "").parse_args()
    pace = start(arguments)
    with tempfile.TemporaryDirectory(dir=".", prefix="outbox-") as folder:
        contests = [_on_the_line(Path(folder), pace.rounds), _on_the_disk(Path(folder))]
    finish(arguments, contests)


def _on_the_line(folder: Path, rounds: int) -> Contest:
    outbox = _open(folder / "line.sqlite")
    durable = _Durable(outbox)
    sinks: dict[str, tuple[Sink, Frame]] = {
        "outbox": (outbox, _frame(None)),
        "outbox, picture of 1280×1024": (outbox, _frame(_PICTURE)),
        "outbox, on the disk": (durable, _frame(None)),
        "outbox, on the disk, picture of 1280×1024": (durable, _frame(_PICTURE)),
        "JSON lines": (JsonlSink(folder / "close.jsonl"), _frame(None)),
        "JSON lines, --sync record": (JsonlSink(folder / "record.jsonl", "record"), _frame(None)),
    }
    samples: dict[str, list[list[float]]] = {name: [] for name in sinks}
    seq = 0
    for _ in range(rounds):
        for name, (sink, frame) in sinks.items():
            samples[name].append([_timed(sink, frame, seq + i) for i in range(1, _PARTS + 1)])
            seq += _PARTS
    for sink in dict.fromkeys(sink for sink, _ in sinks.values()):
        sink.close()
    assert verify(outbox.path) == 4 * rounds * _PARTS
    contest = Contest("write, one record every 5 ms", tuple(_timing(name, taken) for name, taken in samples.items()))
    show(contest)
    return contest


class _Durable:
    """`write` of the outbox, for an OK that is given once it is on the disk."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def write(self, frame: Frame, result: Result) -> None:
        ok = replace(result, verdict=Verdict.OK, reasons=(Reason.SCORE_WITHIN_LIMIT,))
        assert self._outbox.write_durable(frame, ok, time.monotonic() + _PATIENCE_S).verdict is Verdict.OK

    def close(self) -> None:
        """It belongs to the other one."""


def _timed(sink: Sink, frame: Frame, seq: int) -> float:
    result = replace(_RESULT, seq=seq)
    time.sleep(_PERIOD_S)
    begin = time.perf_counter_ns()
    sink.write(frame, result)
    return (time.perf_counter_ns() - begin) / 1e3


def _on_the_disk(folder: Path) -> Contest:
    outbox = _open(folder / "disk.sqlite")
    alone = [_flushed(outbox, seq) for seq in range(1, _ALONE + 1)]
    commits = outbox.health().commits
    begin = time.perf_counter()
    for seq in range(_ALONE + 1, _ALONE + _TOGETHER + 1):
        outbox.write(_frame(None), replace(_RESULT, seq=seq))
    assert outbox.flush(600)
    took_s = time.perf_counter() - begin
    commits = outbox.health().commits - commits
    outbox.close()
    assert verify(outbox.path) == _ALONE + _TOGETHER
    together = f"{_TOGETHER / took_s:.0f} records/s in {commits / took_s:.0f} commits/s"
    timing = _timing("write and flush, one by one", [alone])
    contest = Contest(
        "on the disk", (timing,), notes={timing.name: f"{1e6 / np.mean(alone):.0f} commits/s; all at once: {together}"}
    )
    show(contest)
    return contest


def _flushed(outbox: Outbox, seq: int) -> float:
    begin = time.perf_counter_ns()
    outbox.write(_frame(None), replace(_RESULT, seq=seq))
    assert outbox.flush(60)
    return (time.perf_counter_ns() - begin) / 1e3


def _open(path: Path) -> Outbox:
    notice: Callable[[str], None] = print
    return Outbox(path, _ORIGIN, notice, Limits(waiting=2 * _TOGETHER, reserve_bytes=0))


def _frame(picture: np.ndarray | None) -> Frame:
    return Frame(1, "camera0#1", picture, "none" if picture is None else "bgr8", 1, 1)


def _timing(name: str, rounds: list[list[float]]) -> Timing:
    best = np.array(min(rounds, key=lambda taken: float(np.median(taken))))
    p50, p95, p99 = np.percentile(best, (50, 95, 99))
    return Timing(name, float(p50), float(p95), float(p99), float(best.max()), best.size, len(rounds))


if __name__ == "__main__":
    main()
