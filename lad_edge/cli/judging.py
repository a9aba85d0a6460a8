"""Pictures of parts go in, their scores and the time that the verdict took come out; shared by the verbs that measure."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.errors import DataError, EngineError, UsageError
from lad_edge.values import Frame, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from lad_edge.inspector import Inspector
    from lad_edge.sources.source import Source
    from lad_edge.values import Result

_SHARES = (50, 95, 99)


def frames_of(sources: Iterable[Source]) -> Iterator[Frame]:
    """Every frame of recorded sources, one after the other, numbered from 1."""
    for seq, frame in enumerate(chain.from_iterable(map(_all_of, sources)), 1):
        yield replace(frame, seq=seq)


def _all_of(source: Source) -> Iterator[Frame]:
    source.open()
    with closing(source):
        yield from iter(source.read, None)


def score_of(inspector: Inspector, frame: Frame, option: str) -> float:
    """Of one frame. Raises DataError that names the option which brought a frame that cannot be judged."""
    result = inspector.inspect(frame)
    if result.score is None:
        raise DataError(f"{option}: {frame.frame_id} cannot be judged: {result.detail}; take it out")
    return result.score


def judge_now(inspector: Inspector, seq: int, image: NDArray[np.uint8]) -> Result:
    """A picture as if it had just been captured. Raises UsageError or EngineError if there is no score, so nothing to measure."""
    pixel_format = "mono8" if image.ndim == 2 else inspector.bundle.manifest.contract.pixel_format
    result = inspector.inspect(Frame(seq, "bench", image, pixel_format, time.monotonic_ns(), time.time_ns()))
    if result.score is None:
        kind = UsageError if Reason.FRAME_FORMAT in result.reasons else EngineError
        raise kind(f"a part could not be judged, so there is nothing to measure: {result.detail}")
    return result


def percentiles(values_us: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max, in the unit of the values, to a tenth."""
    found = np.percentile(values_us, _SHARES)
    named = {f"p{share}": round(float(value), 1) for share, value in zip(_SHARES, found, strict=True)}
    return {**named, "max": round(max(values_us), 1)}
