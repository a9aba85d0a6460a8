"""A contestant in a process of its own: the parent asks for a round, the child answers with times and its memory.

The child prints one JSON line after its first verdict, and one for each line that it reads, a number of seconds. Only
the standard library and numpy are used here: the child may run in an environment that knows nothing of lad_edge.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

ROOT = Path(__file__).parent.parent


def serve(call: Callable[[np.ndarray], float], pictures: np.ndarray, **about: object) -> None:
    """Child: make the first verdict, say when, and then whatever is asked for. call: picture → score."""
    score = call(pictures[0])
    _answer(first_ns=time.monotonic_ns(), score=score, **about)
    for line in sys.stdin:
        _answer(times_us=_round(call, pictures, float(line)), **memory_mb())


def memory_mb() -> dict[str, float]:
    """Resident memory of this process now and at its peak, MB (10^6 bytes); pages of libraries count in full."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {
        name: round(int(fields[field].split()[0]) * 1024 / 1e6, 1)
        for name, field in (("resident_mb", "VmRSS"), ("peak_mb", "VmHWM"))
    }


def _round(call: Callable[[np.ndarray], float], pictures: np.ndarray, seconds: float) -> list[float]:
    """µs of each call, one after the other until the time is over."""
    times_us: list[float] = []
    end = now = time.perf_counter_ns()
    end += int(seconds * 1e9)
    while now < end or not times_us:
        begin = time.perf_counter_ns()
        call(pictures[len(times_us) % len(pictures)])
        now = time.perf_counter_ns()
        times_us.append((now - begin) / 1e3)
    return times_us


def _answer(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


@dataclass(frozen=True)
class Start:
    """Which module of which Python, with which arguments, from which folder."""

    module: str
    arguments: Sequence[str]
    folder: Path
    python: str = sys.executable


class Contestant:
    """Parent: a running child; its first verdict has been made when the constructor returns.

    first: what the child said of its first verdict; cold_start_s: from the start of the process to that verdict.
    """

    def __init__(self, start: Start) -> None:
        self.name = start.module
        begin_ns = time.monotonic_ns()
        with ExitStack() as if_it_fails:
            self.process = if_it_fails.enter_context(launch(start))
            self.first = self._read()
            if_it_fails.pop_all()
        self.cold_start_s = (self.first["first_ns"] - begin_ns) / 1e9

    def round(self, seconds: float) -> dict[str, Any]:
        """Verdicts for that long: times_us, resident_mb, peak_mb."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self.process.wait()}; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End of input is the end of the child."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def launch(start: Start, log: IO[str] | None = None) -> subprocess.Popen[str]:
    """Start the module with this repository on its path; log takes its messages, None = our stderr."""
    start.folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [start.python, "-W", "ignore", "-m", start.module, *start.arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd=start.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
