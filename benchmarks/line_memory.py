"""Process ids go in; what their memory, threads and open files do over time comes out."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import theilslopes  # type: ignore[import-untyped]

_WARM_UP = 0.25  # of the time: caches and pools fill first
_PAGE_BYTES = 4096
_MOMENTS = 5  # from the start to the end: does memory still grow?


@dataclass
class Usage:
    """Of one process; one entry for each sample."""

    seconds: list[float] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def figures(self, units_per_s: float) -> dict[str, object]:
        """Theil-Sen slope of the resident memory in bytes per unit (such as a part), with its 95 % interval, after the warm-up."""
        seconds, resident = np.array(self.seconds), np.array(self.resident_bytes)
        settled = seconds >= seconds[0] + _WARM_UP * (seconds[-1] - seconds[0])
        moments = np.linspace(0, resident.size - 1, _MOMENTS).astype(int)
        slope, _, low, high = theilslopes(resident[settled], seconds[settled]) if settled.sum() > 2 else (0.0,) * 4
        return {
            "resident_mb": [round(int(value) / 1e6, 2) for value in resident[moments]],
            "slope_bytes_per_unit": [round(value / units_per_s, 1) for value in (slope, low, high)],
            "threads": [int(value) for value in _ends(np.array(self.threads)[settled])],
            "files": [int(value) for value in _ends(np.array(self.files)[settled])],
        }


class Sampler:
    """Looks at processes every `period_s`, from a thread of its own, while entered."""

    def __init__(self, named: dict[str, int], parent: str, period_s: float = 2.0) -> None:
        """named: name → process id. parent: the one of them whose children are looked at as well."""
        self.named, self.parent, self.period_s = named, parent, period_s
        self.usage: dict[str, Usage] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def figures(self, units: int) -> dict[str, dict[str, object]]:
        """Of each process; units: of work that were done meanwhile, such as parts."""
        longest_s = max(usage.seconds[-1] for usage in self.usage.values())
        return {name: usage.figures(units / longest_s) for name, usage in self.usage.items()}

    def _work(self) -> None:
        begin_s = time.monotonic()
        while not self._ended.wait(self.period_s):
            for name, pid in self._processes():
                _sample(self.usage.setdefault(name, Usage()), pid, time.monotonic() - begin_s)

    def _processes(self) -> list[tuple[str, int]]:
        children = _children(self.named[self.parent])
        return [*self.named.items(), *((f"{self.parent}: {_program(child)}", child) for child in children)]


def _sample(usage: Usage, pid: int, moment_s: float) -> None:
    folder = Path(f"/proc/{pid}")
    try:
        resident = int((folder / "statm").read_text().split()[1]) * _PAGE_BYTES
        threads, files = len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))
    except OSError:  # it has just ended
        return
    usage.seconds.append(moment_s)
    usage.resident_bytes.append(resident)
    usage.threads.append(threads)
    usage.files.append(files)


def _children(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(word) for text in lists for word in text.split()]


def _program(pid: int) -> str:
    """The module or program that a child runs."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return "ended"
    return words[words.index("-m") + 1] if "-m" in words else Path(words[0]).name


def _ends(values: NDArray[np.int64]) -> tuple[float, float]:
    """Medians of the first and of the last tenth."""
    tenth = max(1, values.size // 10)
    return float(np.median(values[:tenth])), float(np.median(values[-tenth:]))
