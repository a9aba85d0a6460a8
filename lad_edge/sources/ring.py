"""Memory that a driver process shares with its parent: slots of a fixed C layout, each with one message and its pixels.

    struct message {                      // little endian, no padding; the pixels begin at HEADER_BYTES
        char     magic[4];                // "LAD2"
        uint32_t kind;                    // Kind
        uint64_t sequence;                // 1, 2, 3 … over one process
        int64_t  device_id;               // of the camera's own counting, -1 = it has none
        uint64_t captured_ns, utc_ns;     // CLOCK_MONOTONIC, which all processes share; wall clock, a label
        uint32_t width, height, bytes;    // of the picture in pixels; of what follows the header
        uint32_t dropped, missing;        // frames since the last message: taken but without a free slot; never received
        char     pixel_format[16];
        char     reason[24];              // of a fault, a code of lad_edge.values.Reason
    };

Which slot holds news is one byte in a pipe, and so is the slot that may be filled again: the pipe orders memory and wakes the
reader. Nothing is pickled. Only the standard library is imported: drivers may run under another Python than the parent.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass, replace
from enum import IntEnum

SLOTS = 8
STATEMENT_SLOT = 0  # for words; the others are for pictures
SLOT_BYTES = 128 * 2**20  # only what is written takes memory
HEADER_BYTES = 4096  # pixels begin on a page
_HEADER = struct.Struct("<4sIQqQQIIIII16s24s")
_MAGIC = b"LAD2"

# Single bytes in the pipes beside the numbers of slots.
READY, ALIVE = 0xFE, 0xFF  # from the driver process: it waits for OPEN; it waits for a picture
OPEN, TRIGGER = 0xFE, 0xFD  # to the driver process


class Kind(IntEnum):
    """What a message says."""

    OPENED = 1  # text: what was opened
    FRAME = 2
    FAULT = 3  # a frame without a picture; text: why
    LOST = 4  # the driver gave up; text: why
    REQUEST = 5  # from the parent, before the process starts; text: JSON


@dataclass(frozen=True)
class Message:
    """The header of a slot, but for its magic; `bytes` of pixels, or of UTF-8 text, follow it."""

    kind: Kind
    sequence: int = 0
    device_id: int = -1
    captured_ns: int = 0
    utc_ns: int = 0
    width: int = 0
    height: int = 0
    bytes: int = 0
    dropped: int = 0
    missing: int = 0
    pixel_format: str = ""
    reason: str = ""


class Ring:
    """The mapped memory; either end makes one around the same file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.memory = mmap.mmap(descriptor, SLOTS * SLOT_BYTES)

    def pixels(self, slot: int) -> memoryview:
        """Where the pixels of a slot go: up to SLOT_BYTES - HEADER_BYTES."""
        start = slot * SLOT_BYTES
        return memoryview(self.memory)[start + HEADER_BYTES : start + SLOT_BYTES]

    def write(self, slot: int, message: Message) -> None:
        """The header, after its pixels."""
        _HEADER.pack_into(
            self.memory,
            slot * SLOT_BYTES,
            _MAGIC,
            message.kind,
            message.sequence,
            message.device_id,
            message.captured_ns,
            message.utc_ns,
            message.width,
            message.height,
            message.bytes,
            message.dropped,
            message.missing,
            message.pixel_format.encode(),
            message.reason.encode(),
        )

    def read(self, slot: int) -> Message:
        """The header. Raises ValueError for one that the driver process cannot have meant."""
        magic, kind, *fields, pixel_format, reason = _HEADER.unpack_from(self.memory, slot * SLOT_BYTES)
        message = replace(Message(Kind(kind), *fields), pixel_format=_word(pixel_format), reason=_word(reason))
        if magic != _MAGIC or message.bytes > SLOT_BYTES - HEADER_BYTES:
            raise ValueError(f"slot {slot} holds {magic!r} and {message.bytes} bytes")
        return message

    def write_text(self, slot: int, text: str) -> int:
        """Puts words where pixels would be; returns their number of bytes."""
        words = text.encode()[: SLOT_BYTES - HEADER_BYTES]
        self.pixels(slot)[: len(words)] = words
        return len(words)

    def read_text(self, slot: int, size: int) -> str:
        """The words of a slot."""
        return bytes(self.pixels(slot)[:size]).decode(errors="replace")


def make_memory() -> int:
    """A file descriptor of anonymous memory with all slots, which no other process can find."""
    descriptor = os.memfd_create("lad-edge-frames")
    os.ftruncate(descriptor, SLOTS * SLOT_BYTES)
    return descriptor


def _word(field: bytes) -> str:
    return field.rstrip(b"\0").decode("ascii", errors="replace")
