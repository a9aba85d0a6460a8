"""What travels from the line to the page's process, and unchanged from there to the browser: a head of JSON and two pictures.

Layout: three lengths in bytes, little-endian u32 (head, picture, map), then the bytes in this order. The head is a JSON object with
`kind` and mostly `camera`; the picture is a JPEG, the map a PNG with transparency; both may be empty.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LENGTHS = struct.Struct("<III")
MOST_BYTES = 8 << 20  # of each of the three


@dataclass(frozen=True)
class Message:
    """head: JSON values; picture, heat: encoded images or nothing; data: all of it in its layout."""

    head: Mapping[str, Any]
    picture: bytes
    heat: bytes
    data: bytes


def pack(head: Mapping[str, Any], picture: bytes = b"", heat: bytes = b"") -> Message:
    """The message in its layout. Raises ValueError for NaN or Inf, which JSON cannot say."""
    text = json.dumps(head, allow_nan=False, separators=(",", ":")).encode()
    return Message(head, picture, heat, LENGTHS.pack(len(text), len(picture), len(heat)) + text + picture + heat)


def lengths_of(start: bytes) -> tuple[int, int, int]:
    """The three lengths. Raises ValueError when they cannot be meant."""
    lengths: tuple[int, int, int] = LENGTHS.unpack(start)
    if max(lengths) > MOST_BYTES:
        raise ValueError(f"a message with parts of {lengths} bytes; each has {MOST_BYTES} at most")
    return lengths


def unpack(start: bytes, rest: bytes) -> Message:
    """From the twelve bytes of the lengths and what follows them. Raises ValueError."""
    head, picture, _ = lengths_of(start)
    fields = json.loads(rest[:head])
    if not isinstance(fields, dict):
        raise ValueError("the head of a message is a JSON object")
    return Message(fields, rest[head : head + picture], rest[head + picture :], start + rest)


def receive(read_exactly: Callable[[int], bytes]) -> Message:
    """The next message of a blocking connection. Raises ValueError, and what `read_exactly` raises."""
    start = read_exactly(LENGTHS.size)
    return unpack(start, read_exactly(sum(lengths_of(start))))
