"""The bare engine with numpy kernels around it answers as the inspector does: both columns measure one computation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny

import lad_edge
from benchmarks.frame import check


def test_the_reference_around_the_bare_engine_gives_the_same_scores(tiny_bundle: Path) -> None:
    pictures = np.stack([tiny.good_picture(seed) for seed in range(3)])
    with lad_edge.load(tiny_bundle, precision="f32", threads=1) as inspector:
        assert check(inspector, pictures) < 1e-4
