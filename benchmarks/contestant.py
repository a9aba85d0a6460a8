"""A contestant in a process of its own: the parent asks for calls, the child answers with times and its memory.

The child prints one JSON line after its first verdict, and one for each line that it reads, a number of calls. Only
the standard library and numpy are used here: the child may run in an environment that knows nothing of lad_edge.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent


def serve(call: Callable[[np.ndarray], float], pictures: np.ndarray, **about: object) -> None:
    """Child: make the first verdict, say when, and then whatever is asked for. call: picture → score."""
    score = call(pictures[0])
    _answer(first_ns=time.monotonic_ns(), score=score, **about)
    for line in sys.stdin:
        times_us = [_timed(call, pictures[index % len(pictures)]) for index in range(int(line))]
        _answer(times_us=times_us, **memory_mb())


def memory_mb() -> dict[str, float]:
    """Resident memory of this process now and at its peak, MB (10^6 bytes); pages of libraries count in full."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {
        name: round(int(fields[field].split()[0]) * 1024 / 1e6, 1)
        for name, field in (("resident_mb", "VmRSS"), ("peak_mb", "VmHWM"))
    }


def _timed(call: Callable[[np.ndarray], float], picture: np.ndarray) -> float:
    begin = time.perf_counter_ns()
    call(picture)
    return (time.perf_counter_ns() - begin) / 1e3


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
        self.process = launch(start)
        self.first = self._read()
        self.cold_start_s = (self.first["first_ns"] - begin_ns) / 1e9

    def calls(self, count: int) -> dict[str, Any]:
        """`count` verdicts: times_us, resident_mb, peak_mb."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self.process.wait()}; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def launch(start: Start) -> subprocess.Popen[str]:
    """Start the module with this repository on its path."""
    start.folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [start.python, "-W", "ignore", "-m", start.module, *start.arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=start.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
