"""G2 in small: a power cut loses nothing that was acknowledged; and with less than synchronous=FULL it would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def cuts(folder: Path, cycles: int, synchronous: str) -> list[tuple[int, int]]:
    """(acknowledged, found) of each cut."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs mkfs.ext4")
    program = Path(__file__).with_name("power_cut.py")
    words = [sys.executable, program, folder, str(cycles), synchronous]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    if ended.returncode == 77:
        pytest.skip(f"a loop device cannot be mounted here: {ended.stderr.strip()}")
    assert ended.returncode == 0, ended.stderr
    return [(int(line.split()[0]), int(line.split()[1])) for line in ended.stdout.splitlines()]


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    found = cuts(tmp_path, 8, "FULL")
    assert len(found) == 8
    assert all(acknowledged <= kept for acknowledged, kept in found)
    assert found[-1][0] > 20


def test_the_cut_finds_what_was_acknowledged_before_it_was_on_the_disk(tmp_path: Path) -> None:
    """The control: NORMAL survives a kill, but no power cut."""
    assert any(acknowledged > kept for acknowledged, kept in cuts(tmp_path, 8, "NORMAL"))
