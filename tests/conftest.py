"""Fixtures that several rooms share: tiny bundles made by the real parts (tiny.py)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import tiny

from lad_edge import bundle as bundles
from lad_edge.inspector import Inspector, Options

# A shared machine is no stopwatch: an example may take as long as it takes. CI tries the same examples every time, so that a
# change is judged by itself; a run by hand looks for new ones.
hypothesis.settings.register_profile("lad_edge", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("lad_edge")

# Tests that watch the clock, or use what a machine has once, such as the address of the fake camera.
ROOMS_IN_TIME = ("cli", "dashboard", "outputs", "plc", "sources", "stream")
IN_TIME = (*(f"tests/{room}/" for room in ROOMS_IN_TIME), "tests/benchmarks/test_line_proofs.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where workers share the tests, one of them runs those IN_TIME one after the other; the rest goes file by file."""
    from xdist.scheduler import LoadScopeScheduling  # pip install pytest-xdist

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "in time" if nodeid.startswith(IN_TIME) else nodeid.partition("::")[0]

    return ByFile(config, log)


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_bundle(**Recipe fields) → path of a tiny .lad file; equal recipes share one file."""
    made: dict[str, Path] = {}

    def make(**changes: object) -> Path:
        recipe = tiny.Recipe(**changes)  # type: ignore[arg-type]
        key = repr(recipe)
        if key not in made:
            made[key] = tiny.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny.lad", recipe)
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: Callable[..., Path]) -> Path:
    """The plain tiny bundle: BGR frames of 64 × 48 px."""
    return make_bundle()


@pytest.fixture
def open_inspector(make_bundle: Callable[..., Path]) -> Iterator[Callable[..., Inspector]]:
    """open_inspector(Options(), **Recipe fields) → an inspector that is closed after the test."""
    opened: list[Inspector] = []

    def open_one(options: Options | None = None, **changes: object) -> Inspector:
        opened.append(Inspector(bundles.read(make_bundle(**changes)), options))
        return opened[-1]

    yield open_one
    for inspector in opened:
        inspector.close()


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of the size that the test's module states as SMALL_DISK, such as "64k"."""
    size = f"size={request.module.SMALL_DISK}"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)
