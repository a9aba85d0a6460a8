"""A stream of synthetic kits with its ground truth, as a triggered camera would deliver it: one frame for each part.

The video is Motion JPEG in an AVI file. Each frame is coded on its own, with the encoder and quality of the stills,
so that a detector sees in the video what it was trained on; a codec that predicts frames from their predecessors
would blend one part into the next. The container is written here because no writer of OpenCV's takes JPEG bytes as
they are.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.datasets.synthetic import JPEG_QUALITY, Sample, make_sample
from lad_edge.datasets.synthetic_defects import LOGICAL, STRUCTURAL, DefectType, nth_defect
from lad_edge.datasets.synthetic_field import WORLD_HEIGHT, WORLD_WIDTH
from lad_edge.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_GOOD_SHARE, _LOGICAL_SHARE = 0.6, 0.65  # of all parts; of the bad ones
_KEY_FRAME, _HAS_INDEX = 0x10, 0x10


@dataclass(frozen=True)
class VideoPart:
    """The truth about one frame: which part, its label, and its defect type ("" for a good one)."""

    frame: int
    part_id: str
    label: str
    defect_type: str


def render_video(
    path: str | Path, *, seed: int, parts: int = 72, fps: int = 10, width_px: int = WORLD_WIDTH, freedom: float = 1.0
) -> tuple[VideoPart, ...]:
    """Writes `path` (.avi, Motion JPEG, one frame for each part) and beside it the truth as `<stem>.json`.

    Six parts in ten are good; the others are two thirds logical and one third structural, in an order drawn from the
    seed. Raises UsageError for another suffix or fewer than one part, DataError when the files cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".avi" or parts < 1 or not 1 <= fps <= 240:
        raise UsageError(
            f"expected a path that ends in .avi, parts >= 1, fps 1 to 240; got {path.name}, {parts}, {fps}"
        )
    fates = _fates(seed, parts)
    samples = [make_sample(seed, "video", i, fate, width_px=width_px, freedom=freedom) for i, fate in enumerate(fates)]
    truth = tuple(_truth(i, sample) for i, sample in enumerate(samples))
    about = {
        "video": path.name,
        "seed": seed,
        "fps": fps,
        "freedom": freedom,
        "jpeg_quality": JPEG_QUALITY,
        "frames": [vars(part) for part in truth],
    }
    height_px = width_px * WORLD_HEIGHT // WORLD_WIDTH
    try:
        path.write_bytes(mjpeg_avi([sample.jpeg for sample in samples], width_px, height_px, fps))
        path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    except OSError as exc:
        raise DataError(f"cannot write {path}: {exc.strerror}; choose a folder that you may write to") from exc
    return truth


def _truth(frame: int, sample: Sample) -> VideoPart:
    return VideoPart(frame, f"kit-{frame:04d}", sample.label, sample.defect.name if sample.defect else "")


def _fates(seed: int, parts: int) -> list[DefectType | None]:
    """What is wrong with each part of the stream; the first three are good, to show what good looks like."""
    good = max(round(parts * _GOOD_SHARE), min(parts, 3))
    logical = round((parts - good) * _LOGICAL_SHARE)
    structural = parts - good - logical
    rng = np.random.default_rng([seed, 3])
    # Where the turns of the types begin is drawn too, so that a short video does not always show the same few.
    starts = rng.integers(0, 12, 2)
    bad = [nth_defect(LOGICAL, int(starts[0]) + i) for i in range(logical)]
    bad += [nth_defect(STRUCTURAL, int(starts[1]) + i) for i in range(structural)]
    rest: list[DefectType | None] = [*bad, *[None] * (good - min(parts, 3))]
    return [None] * min(parts, 3) + [rest[i] for i in rng.permutation(len(rest))]


def mjpeg_avi(frames: Sequence[bytes], width_px: int, height_px: int, fps: int) -> bytes:
    """An AVI 1.0 file (Microsoft, "AVI RIFF File Reference") that holds these JPEG files as its frames, untouched."""
    chunks = [_chunk(b"00dc", frame) for frame in frames]
    offsets = np.cumsum([4, *(len(chunk) for chunk in chunks)])
    index = b"".join(
        struct.pack("<4sIII", b"00dc", _KEY_FRAME, offset, len(frame))
        for offset, frame in zip(offsets, frames, strict=False)
    )
    largest = max(len(frame) for frame in frames)
    main = struct.pack(
        "<14I",
        1_000_000 // fps,
        largest * fps,
        0,
        _HAS_INDEX,
        len(frames),
        0,
        1,
        largest,
        width_px,
        height_px,
        0,
        0,
        0,
        0,
    )
    stream = struct.pack(
        "<4s4sIHHIIIIIIII4H",
        *(b"vids", b"MJPG", 0, 0, 0, 0, 1, fps, 0, len(frames), largest, 0xFFFFFFFF, 0, 0, 0, width_px, height_px),
    )
    bitmap = struct.pack("<IiiHH4sIiiII", 40, width_px, height_px, 1, 24, b"MJPG", width_px * height_px * 3, 0, 0, 0, 0)
    header = _chunk(b"avih", main) + _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", bitmap))
    body = _list(b"hdrl", header) + _list(b"movi", b"".join(chunks)) + _chunk(b"idx1", index)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"AVI " + body


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _list(name: bytes, content: bytes) -> bytes:
    return _chunk(b"LIST", name + content)
