"""The one measuring harness: checks the result, warms up, times in rounds, names the machine, compares in one run.

Contestants take turns round by round, so that other load on the machine meets all of them alike, and each is judged by
its best round (the one with the lowest median): what disturbs a round belongs to the machine, not to the code.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Timing:
    """One contestant of one question; times in microseconds per call, of its best round."""

    name: str
    p50_us: float
    p95_us: float
    p99_us: float
    max_us: float
    calls: int
    rounds: int


@dataclass(frozen=True)
class Contest:
    """One question: several ways to compute the same thing, ours first. bytes_moved: what has to be read and written."""

    title: str
    timings: tuple[Timing, ...]
    bytes_moved: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)  # by contestant

    @property
    def ours(self) -> Timing:
        """The first contestant."""
        return self.timings[0]

    def ratio(self, other: Timing) -> float:
        """How many times longer the other takes than ours."""
        return other.p50_us / self.ours.p50_us

    def bytes_per_second(self) -> float:
        """Of ours, at the median."""
        return self.bytes_moved / (self.ours.p50_us * 1e-6)


@dataclass(frozen=True)
class Pace:
    """How long to measure: rounds per contestant, seconds per round, calls that are made before and dropped."""

    rounds: int = 7
    seconds: float = 0.3
    warm_up: int = 5


def compare(title: str, contestants: Mapping[str, Callable[[], object]], pace: Pace, **about: object) -> Contest:
    """Time the contestants in turns. Check their results before: a fast wrong answer is no contestant."""
    samples: dict[str, list[np.ndarray]] = {name: [] for name in contestants}
    for call in contestants.values():
        for _ in range(pace.warm_up):
            call()
    for _ in range(pace.rounds):
        for name, call in contestants.items():
            samples[name].append(_one_round(call, pace.seconds))
    timings = tuple(_best_round(name, rounds) for name, rounds in samples.items())
    return Contest(title, timings, **about)  # type: ignore[arg-type]


def _one_round(call: Callable[[], object], seconds: float) -> np.ndarray:
    times: list[int] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    now = 0
    while now < end:
        begin = time.perf_counter_ns()
        call()
        now = time.perf_counter_ns()
        times.append(now - begin)
    return np.array(times) / 1e3


def _best_round(name: str, rounds: list[np.ndarray]) -> Timing:
    best = min(rounds, key=lambda times: float(np.median(times)))
    p50, p95, p99 = np.percentile(best, (50, 95, 99))
    return Timing(name, float(p50), float(p95), float(p99), float(best.max()), best.size, len(rounds))


def copy_bytes_per_second(working_set: int, pace: Pace) -> float:
    """What a copy on one thread reads and writes per second when source and target together take `working_set` bytes."""
    source = np.ones(max(working_set // 8, 1), np.float32)
    target = np.empty_like(source)
    timing = compare("copy", {"copy": lambda: np.copyto(target, source)}, pace).ours
    return 2 * source.nbytes / (timing.p50_us * 1e-6)


def machine() -> dict[str, object]:
    """What a figure has to be read with."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    known = ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16")
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "features": [name for name in known if name in flags],
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.release()}",
    }


def show(contest: Contest, copy_rate: float | None = None) -> None:
    """Print one question: a line per contestant, and what ours makes of the memory."""
    print(f"\n{contest.title}")
    print(f"  {'':34}{'p50':>10}{'p95':>10}{'p99':>10}{'max':>10}  µs   ×ours")
    for t in contest.timings:
        line = f"  {t.name:34}{t.p50_us:10.1f}{t.p95_us:10.1f}{t.p99_us:10.1f}{t.max_us:10.1f}{contest.ratio(t):12.2f}"
        print(line + (f"  {contest.notes[t.name]}" if t.name in contest.notes else ""))
    if contest.bytes_moved and copy_rate:
        rate = contest.bytes_per_second()
        print(f"  {contest.bytes_moved / 1e6:.2f} MB moved, {rate / 1e9:.1f} GB/s: ", end="")
        print(f"{100 * rate / copy_rate:.0f} % of a copy of that size here ({copy_rate / 1e9:.1f} GB/s)")


def options(description: str) -> argparse.ArgumentParser:
    """The flags that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=Pace.rounds, help="rounds per contestant; the best one counts")
    parser.add_argument("--seconds", type=float, default=Pace.seconds, help="length of a round")
    parser.add_argument("--cpu", type=int, help="run on this core only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser


def start(arguments: argparse.Namespace) -> Pace:
    """Apply the shared flags and name the machine."""
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    return Pace(arguments.rounds, arguments.seconds)


def finish(arguments: argparse.Namespace, contests: Iterable[Contest]) -> None:
    """Write the JSON file if one was asked for."""
    if arguments.json is not None:
        record = {"machine": machine(), "contests": [asdict(contest) for contest in contests]}
        arguments.json.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
