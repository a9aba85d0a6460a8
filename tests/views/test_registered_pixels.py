"""Pixel metrics of an engine whose region follows the part: each map lies where the engine looked."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from kits import moved

from lad_edge import bundle as bundles
from lad_edge.datasets import open_dataset
from lad_edge.datasets.synthetic import generate
from lad_edge.images import read_image_8bit
from lad_edge.inspector import Inspector
from lad_edge.teaching import Lesson, Options

pytest.importorskip("torch")  # lad_edge.export belongs to the workstation


def pixel_auroc(engine: Path, data: Path) -> float:
    from lad_edge.export.evaluate import evaluate

    with Inspector(bundles.read(engine)) as inspector:
        return float(evaluate(inspector, open_dataset(data)).metrics["pixel_auroc"])


def test_maps_are_compared_with_the_masks_where_the_region_was(tmp_path: Path) -> None:
    data = generate(
        tmp_path, seed=5, train=12, validation=0, test_good=2, logical=0, structural=6, width_px=320, freedom=0.1
    )
    with Lesson(Options(precision="f32", threads=1, register=0.1)) as lesson:
        for path in sorted((data / "train" / "good").iterdir()):
            lesson.show(path.name, read_image_8bit(path), "bgr8")
        lesson.finish().write(tmp_path / "tray.lad")
    before = pixel_auroc(tmp_path / "tray.lad", data)
    for path in [*(data / "test").rglob("*.png"), *(data / "ground_truth").rglob("*.png")]:
        cv2.imwrite(str(path), moved(np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8), 0.08, 0.0))
    assert pixel_auroc(tmp_path / "tray.lad", data) == pytest.approx(before, abs=0.03)
