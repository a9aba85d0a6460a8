"""A verb of the command line in a process of its own, for tests that send it signals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MAIN = "import sys; from lad_edge.cli import main; sys.exit(main())"


@contextmanager
def running(*words: object, program: str = MAIN, stdin: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Python's `program` with these words; killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Reads its messages up to the one that holds `text`."""
    assert process.stderr is not None
    if not any(text in line for line in process.stderr):
        raise AssertionError(f"'{text}' never came; exit code {process.wait()}")
