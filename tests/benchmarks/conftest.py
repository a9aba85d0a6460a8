"""Benchmarks are no part of the package: the repository's folder is put on the path, and those of the devices and the broker of the tests."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS / "kernels"), str(TESTS / "outputs"), str(TESTS / "scoring")]
