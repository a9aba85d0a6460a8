"""Pictures small enough to make for each test, real enough to decode, compare and measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


def photo(seed: int, width: int = 96, height: int = 64) -> np.ndarray:
    """(H, W, 3) uint8 BGR: smooth coloured blobs with some texture, another picture for each seed."""
    rng = np.random.default_rng(seed)
    blobs = cv2.resize(
        rng.uniform(40, 215, (5, 7, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(blobs + rng.normal(0, 6, blobs.shape), 0, 255).astype(np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def mask(value: int = 255, width: int = 96, height: int = 64) -> np.ndarray:
    drawn = np.zeros((height, width), np.uint8)
    drawn[20:30, 40:60] = value
    return drawn
