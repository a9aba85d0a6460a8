"""Good kit trays as a fixed camera sees them, and what befalls cameras."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lad_edge.datasets.synthetic import make_sample
from lad_edge.teaching import Lesson, Options

Picture = NDArray[np.uint8]


@lru_cache(maxsize=128)
def tray(index: int, split: str = "train/good") -> Picture:
    return make_sample(7, split, index, width_px=320, freedom=0.25).image


def moved(picture: Picture, right: float, down: float) -> Picture:
    """In shares of width and height; what comes in from outside is the border."""
    height, width = picture.shape[:2]
    by = np.array([[1, 0, round(right * width)], [0, 1, round(down * height)]], np.float32)
    return np.asarray(cv2.warpAffine(picture, by, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def under_noise(picture: NDArray[np.generic]) -> Picture:
    noise = np.random.default_rng(0).normal(0, 1, picture.shape)
    return np.clip(np.rint(picture.astype(np.float64) + noise), 0, 255).astype(np.uint8)


def taught(path: Path, picture: Callable[[int], Picture], parts: int, **options: object) -> Path:
    """An engine of pictures 0 to parts - 1."""
    with Lesson(Options(precision="f32", threads=1, **options)) as lesson:  # type: ignore[arg-type]
        for index in range(parts):
            lesson.show(f"{index}.png", picture(index), "bgr8")
        lesson.finish().write(path)
    return path
