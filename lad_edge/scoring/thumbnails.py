"""Small pictures of taught parts, as a bundle keeps them: JPEGs one behind the other, and where each of them ends."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lad_edge.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

PICTURES, ENDS = "taught/thumbnails", "taught/thumbnail_ends"
MOST = 64  # pictures of an engine: with MOST_BYTES each no more than 1 MiB
MOST_BYTES = 16 << 10
_QUALITY, _SIDES_PX = 80, (256, 192, 128, 64)  # the longer side; the next one if the JPEG has more than MOST_BYTES


def thumbnail(image: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) BGR or (H, W) → JPEG of at most MOST_BYTES, never larger than the picture."""
    for side_px in _SIDES_PX:
        scale = min(1.0, side_px / max(image.shape[:2]))
        size = max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0]))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        data: bytes = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        if len(data) <= MOST_BYTES:
            break
    return data


def pack(jpegs: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    """Of each part, b"" for one without; no table if all are without."""
    if not any(jpegs):
        return {}
    ends = np.cumsum([len(jpeg) for jpeg in jpegs], dtype=np.int64)
    return {PICTURES: np.frombuffer(b"".join(jpegs), np.uint8), ENDS: ends}


def unpack(tables: Mapping[str, NDArray[Any]], parts: int) -> list[bytes]:
    """Undoes `pack`; [] if the bundle has none. Raises EngineError unless there is one entry for each part."""
    if PICTURES not in tables:
        return []
    data, ends = tables[PICTURES].tobytes(), tables.get(ENDS, np.zeros(0)).tolist()
    edges = [0, *ends]
    if len(ends) != parts or edges[-1] != len(data) or edges != sorted(edges):
        raise EngineError(
            f"the bundle's thumbnails are not those of its {parts} parts; teach the engine again, or with --no-thumbnails"
        )
    return [data[start:end] for start, end in pairwise(edges)]
