"""`lad-edge run` under a wall clock that jumps by hours and years five times a second: labels change, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from background import MAIN
from native_library import compile_library

from lad_edge.outputs.ledger import verify

SOURCE = Path(__file__).with_name("jumping_clock.c")
WAIT_S, PARTS = 60.0, 150


@pytest.fixture
def jumping_clock(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose wall clock jumps."""
    library = compile_library(SOURCE, tmp_path / "jumping_clock.so", "-ldl")
    return os.environ | {"LD_PRELOAD": str(library)}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def test_a_wall_clock_that_jumps_changes_labels_alone(
    tiny_bundle: Path, tmp_path: Path, jumping_clock: dict[str, str]
) -> None:
    plain = tmp_path / "parts.jsonl"
    words = ["--source", "pattern://64x48?fps=50", "--trigger", "interval:20ms", "--deadline", "1s", "--quiet"]
    outs = [f"sqlite:{tmp_path}/line.sqlite?keep=1d", f"csv:{tmp_path}/parts-%Y.csv?rotate=10kB&quota=1MB", str(plain)]
    words += [word for out in outs for word in ("--out", out)]
    command = [sys.executable, "-c", MAIN, "run", "--engine", tiny_bundle, *words]
    with subprocess.Popen(command, env=jumping_clock) as process:
        limit_s = time.monotonic() + WAIT_S
        while len(lines(plain)) < PARTS and time.monotonic() < limit_s:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    records = lines(plain)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert len(records) >= PARTS
    reasons = {reason for record in records[:-2] for reason in record["reasons"]}  # the last may be open at the stop
    assert reasons == {"STRUCTURAL_ABOVE_LIMIT", "CLOCK_UNSYNCED"}  # a picture of the pattern is no good part
    assert len({datetime.fromtimestamp(record["utc_ns"] / 1e9, timezone.utc).year for record in records}) > 2
    assert verify(tmp_path / "line.sqlite") == len(records)
    tables = [row for table in tmp_path.glob("parts-*.csv") for row in table.read_text().splitlines()[1:]]
    assert len(tables) == len(records)
