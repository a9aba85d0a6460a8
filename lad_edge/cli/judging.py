"""Pictures of parts whose nature is known go in, their scores come out; shared by the verbs that measure."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from lad_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lad_edge.inspector import Inspector
    from lad_edge.stream.sources import Source
    from lad_edge.values import Frame


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
