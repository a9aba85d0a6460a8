"""Native kernels against the best numpy, OpenCV and Pillow forms, one thread each: python -m benchmarks.kernels."""

from __future__ import annotations

import os
import sys

import cv2

from benchmarks.cases import CASES
from benchmarks.cases.case import Case
from benchmarks.harness import Contest, Pace, compare, copy_bytes_per_second, finish, options, show, start

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    """Run all questions."""
    arguments = options(__doc__ or "").parse_args()
    if not ONE_THREAD.items() <= os.environ.items():  # numpy's BLAS reads them when it is loaded, which has happened
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.kernels", *sys.argv[1:]], os.environ | ONE_THREAD)
    pace = start(arguments)
    cv2.setNumThreads(1)
    print(f"a copy far beyond the caches moves {copy_bytes_per_second(1 << 28, pace) / 1e9:.1f} GB/s on one thread")
    contests = []
    for make in CASES:
        contests.append(measure(make(), pace))
        show(contests[-1], copy_bytes_per_second(contests[-1].bytes_moved, pace))
    finish(arguments, contests)


def measure(case: Case, pace: Pace) -> Contest:
    """Check the results, then take the time."""
    case.check()
    calls = {name: contestant.call for name, contestant in case.contestants.items()}
    notes = {name: contestant.note for name, contestant in case.contestants.items() if contestant.note}
    return compare(case.title, calls, pace, bytes_moved=case.bytes_moved, notes=notes)


if __name__ == "__main__":
    main()
