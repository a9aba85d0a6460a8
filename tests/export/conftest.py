"""What the exports of several detectors are tested on: one small data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from lad_edge.datasets.synthetic import generate


@pytest.fixture(scope="session")
def kit_tray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images to train on, 8 to calibrate with and 10 to test with, 160 px wide; nobody writes into it."""
    root = tmp_path_factory.mktemp("export")
    generate(root, seed=1, train=24, validation=8, test_good=4, logical=3, structural=3, width_px=160)
    return root / "kit_tray"
