"""How long teaching takes, and how fast a taught engine judges: python -m benchmarks.teach.

Pictures of the kit, 1280×1024 in memory, are taught as `lad-edge teach` does it. The engines that come out and, with --env, anomalib's
OpenVINOInferencer on EfficientAD-S take turns round by round, each in its own process with the same number of threads.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.contestant import Contestant, Start
from benchmarks.engines import HEIGHT, WIDTH, WORK, frames_file
from benchmarks.peer import PICTURES, RAW, environment, in_turns, peer_models
from benchmarks.report import Figures, about, add_json_flag, percentiles, table, write
from lad_edge.runtime import available, default_runtime
from lad_edge.teaching import SIDE, Lesson, Options

PEER = f"EfficientAD-S, {RAW}"


@dataclass(frozen=True)
class Lessons:
    """Seconds of one lesson, and what came out. fit_s: tables, the scores of unseen parts and the threshold."""

    parts: int
    side_px: int
    precision: str
    threads: int
    features_s: float
    fit_s: float
    megabytes: float


def main() -> None:
    """Teach, judge in turns, print, write."""
    args = _arguments()
    python = None if args.env is None else environment(args.env)
    precisions = available()[default_runtime()]
    lessons = [
        taught(parts, args.side, precision, args.threads, args.work)
        for parts in args.parts
        for precision in reversed(precisions)
    ]
    latency = judged(lessons, python, args)
    print(_lessons(lessons))
    print(_latency(latency, args.threads))
    found = {
        "lessons": [vars(one) for one in lessons],
        "threads": args.threads,
        "latency_ms": latency,
    }
    write(args.json, about(frame=[WIDTH, HEIGHT], **found))


def taught(parts: int, side: int, precision: str, threads: int, work: Path) -> Lessons:
    """One lesson; its engine is left in `work`."""
    pictures = np.load(frames_file(parts, work), mmap_mode="r")
    options = Options(name="kit", side=side, precision=precision, threads=threads)
    with Lesson(options) as lesson:
        lesson.show("warm-up", np.array(pictures[0]), "bgr8")
    begin = time.perf_counter()
    with Lesson(options) as lesson:
        for index, picture in enumerate(pictures):
            lesson.show(str(index), np.array(picture), "bgr8")
        shown = time.perf_counter()
        found = lesson.finish()
    end = time.perf_counter()
    path = _engine(parts, precision, work)
    found.write(path)
    return Lessons(
        parts,
        side,
        precision,
        threads,
        round(shown - begin, 2),
        round(end - shown, 2),
        round(path.stat().st_size / 1e6, 1),
    )


def judged(lessons: list[Lessons], python: str | None, args: argparse.Namespace) -> dict[str, Figures]:
    """Contestant → ms of its best round."""
    file, work = frames_file(PICTURES, args.work), args.work.absolute()
    starts = {
        f"taught from {one.parts}, {one.precision}": Start(
            "benchmarks.edge_worker",
            [
                "ours",
                str(_engine(one.parts, one.precision, work)),
                str(file.absolute()),
                one.precision,
                str(one.threads),
            ],
            work,
        )
        for one in lessons
    }
    if python is not None:
        serve: list[Any] = ["serve", peer_models("s", python, args.work)["raw"], str(file.absolute()), "raw"]
        starts[PEER] = Start("benchmarks.peer_worker", [*serve, str(args.threads)], work, python)
    with ExitStack() as stack:
        running = {name: stack.enter_context(Contestant(start)) for name, start in starts.items()}
        rounds = in_turns(running, args)
    return {name: percentiles(min(times, key=median), scale=1e-3) for name, times in rounds.items()}


def _engine(parts: int, precision: str, work: Path) -> Path:
    return work / f"taught_{parts}_{precision}.lad"


def _lessons(lessons: list[Lessons]) -> str:
    head = ("parts", "px", "precision", "threads", "features s", "fit s", "MB")
    return table(f"Teaching pictures of {WIDTH}×{HEIGHT}", head, [list(vars(one).values()) for one in lessons])


def _latency(latency: dict[str, Figures], threads: int) -> str:
    fastest = min(figures["p50"] for figures in latency.values())
    rows = [[name, *figures.values(), figures["p50"] / fastest] for name, figures in latency.items()]
    head = ("", "p50", "p95", "p99", "max", "calls", "× the fastest")
    return table(f"Frame to verdict, {threads} threads, ms", head, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.teach"
    )
    parser.add_argument("--parts", type=lambda text: [int(word) for word in text.split(",")], default=[25, 100])
    parser.add_argument("--side", type=int, default=SIDE, help="of the network's picture, px")
    parser.add_argument("--env", type=Path, help="environment of the peer, made if missing; without it no peer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of engines and pictures; made if missing")
    add_json_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
