"""Benchmarks are no part of the package: the path gets the repository, and the devices and the broker of other tests."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS / "kernels"), str(TESTS / "outputs"), str(TESTS / "scoring")]
