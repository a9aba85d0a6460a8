"""The register map of the Modbus server as one table, and outputs as the registers that it names.

Addresses count from 0, as on the wire; programs that count from 1 add 30001 (input), 40001 (holding) or 10001 (discrete). Numbers of
two registers have the high word first. Text has two ASCII characters in a register, the first one in the high byte, and ends with NUL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lad_edge.plc.codes import REASON_CODES, HandshakeError
from lad_edge.plc.handshake import Outputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAP_VERSION = 1
PART_ID_REGISTERS = 16
TRIGGER_BIT, ACK_BIT = 1, 2

SIGNALS = tuple(Outputs().bits)


@dataclass(frozen=True)
class Register:
    """kind: "bits", "uint16", "uint32", "int32" or "text"; words: how many registers."""

    name: str
    address: int
    kind: str
    meaning: str
    words: int = 1


HOLDING = (
    Register("CONTROL", 0, "bits", "bit 0 TRIGGER, bit 1 ACK; their rising edges count"),
    Register("TRIGGER_COUNTER", 1, "uint16", "one more than before is a trigger too (use this or TRIGGER)"),
    Register("TEST", 2, "uint16", "any value, read back; no effect"),
    Register("PART_ID", 3, "text", "name of the next part: A-Z a-z 0-9 . _ -", PART_ID_REGISTERS),
)
INPUT = (
    Register("STATUS", 0, "bits", f"bits 0 to 7: {', '.join(SIGNALS)}"),
    Register("HEARTBEAT", 1, "uint16", "counts up 4 times a second while the line moves; standing still = reject"),
    Register("SEQUENCE", 2, "uint32", "number of the result: rises with each", 2),
    Register("REASON", 4, "uint16", "first reason of the result (codes below), 0 = no result is shown"),
    Register("ERROR_CODE", 5, "uint16", "what was wrong with the last trigger (codes below)"),
    Register("SCORE_MILLI", 6, "int32", "score × 1000; -2147483648 = the part was not scored", 2),
    Register("TRIGGERS", 8, "uint32", "triggers that came, of any kind", 2),
    Register("OK_PARTS", 10, "uint32", "results OK since the start of the line", 2),
    Register("NG_PARTS", 12, "uint32", "results NG", 2),
    Register("UNKNOWN_PARTS", 14, "uint32", "results UNKNOWN", 2),
    Register("REFUSED", 16, "uint32", "triggers that came with an error", 2),
    Register("COUNTER_ECHO", 18, "uint16", "the last TRIGGER_COUNTER that was seen"),
    Register("MAP_VERSION", 19, "uint16", f"of this table: {MAP_VERSION}"),
    Register("PART_ID_ECHO", 20, "text", "name of the part that the result is of", PART_ID_REGISTERS),
)
HOLDING_WORDS = HOLDING[-1].address + HOLDING[-1].words
INPUT_WORDS = INPUT[-1].address + INPUT[-1].words


def input_words(outputs: Outputs) -> list[int]:
    """(INPUT_WORDS,) values of 16 bits, in the order of INPUT."""
    status = sum(1 << bit for bit, value in enumerate(outputs.bits.values()) if value)
    return [
        status,
        outputs.heartbeat,
        *_two(outputs.sequence),
        outputs.reason,
        int(outputs.error),
        *_two(outputs.score_milli),
        *_two(outputs.triggers),
        *_two(outputs.ok_parts),
        *_two(outputs.ng_parts),
        *_two(outputs.unknown_parts),
        *_two(outputs.refused),
        outputs.counter,
        MAP_VERSION,
        *words_of(outputs.part_id),
    ]


def words_of(text: str) -> list[int]:
    """The first 32 ASCII characters as (PART_ID_REGISTERS,) values."""
    data = text.encode("ascii", "replace")[: 2 * PART_ID_REGISTERS].ljust(2 * PART_ID_REGISTERS, b"\0")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


def text_of(words: Sequence[int]) -> str:
    """The text before the first NUL; what is no ASCII becomes "?"."""
    data = b"".join(word.to_bytes(2, "big") for word in words)
    return data.partition(b"\0")[0].decode("ascii", "replace").replace("\ufffd", "?")


def map_lines() -> Iterator[str]:
    """The map for a person."""
    yield "addresses from 0; numbers of two registers: high word first; text: two characters in a register, NUL at its end"
    yield from _table("holding registers: the PLC writes (functions 6, 16, 22, 23) and reads back (3)", HOLDING)
    yield from _table("input registers: the PLC reads (function 4), all in one request for one moment", INPUT)
    yield "discrete inputs: the PLC reads (function 2)"
    yield from (f"  {address:>5}  {name}" for address, name in enumerate(SIGNALS))
    yield "reasons"
    yield from (f"  {code:>5}  {reason.value}" for reason, code in REASON_CODES.items())
    yield "error codes"
    yield from (f"  {error.value:>5}  {error.name}" for error in HandshakeError)


def _table(title: str, registers: Sequence[Register]) -> Iterator[str]:
    yield title
    for register in registers:
        last = register.address + register.words - 1
        span = str(register.address) if register.words == 1 else f"{register.address}-{last}"
        yield f"  {span:>5}  {register.name:<16} {register.kind:<7} {register.meaning}"


def _two(value: int) -> tuple[int, int]:
    unsigned = value % 2**32
    return unsigned >> 16, unsigned & 0xFFFF
