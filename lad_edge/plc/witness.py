"""A PLC for tests: it triggers parts, checks every step of the handshake and its times, and keeps a count of its own.

It is a witness only as far as it shares nothing with the line: its client is its own, and of this room it knows the register map alone.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lad_edge.plc.registers import (
    ACK_BIT,
    HOLDING,
    INPUT,
    INPUT_WORDS,
    MAP_VERSION,
    SIGNALS,
    TRIGGER_BIT,
    text_of,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lad_edge.plc.modbus_client import ModbusClient

_VERDICTS = ("OK", "NG", "UNKNOWN")
_LONGEST_BEAT_S = 1.0  # between two changes of the heartbeat, on a machine that is busy with other things too
_POLL_S = 0.0005
_MOST_VIOLATIONS = 100
_COUNTERS = {"triggers": "TRIGGERS", "OK": "OK_PARTS", "NG": "NG_PARTS", "UNKNOWN": "UNKNOWN_PARTS"}
_CONTROL = next(register.address for register in HOLDING if register.name == "CONTROL")
_PART_ID = next(register.address for register in HOLDING if register.name == "PART_ID")


@dataclass
class Account:
    """What the witness has seen. times: from the write of TRIGGER to the read of RESULT_VALID, and from ACK to its fall."""

    triggers: int = 0
    verdicts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_VERDICTS, 0))
    unanswered: int = 0
    violations: list[str] = field(default_factory=list)
    result_ms: list[float] = field(default_factory=list)
    release_ms: list[float] = field(default_factory=list)
    longest_beat_s: float = 0.0
    line: dict[str, int] = field(default_factory=dict)  # the line's own counts, over the same time

    @property
    def clean(self) -> bool:
        """Every step was right, every trigger was answered, and both sides count the same."""
        return not self.violations and not self.unanswered

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "clean": self.clean,
            "triggers": self.triggers,
            "verdicts": dict(self.verdicts),
            "unanswered": self.unanswered,
            "line": dict(self.line),
            "violations": list(self.violations),
            "trigger_to_result_ms": _percentiles(self.result_ms),
            "ack_to_release_ms": _percentiles(self.release_ms),
            "longest_heartbeat_s": round(self.longest_beat_s, 3),
        }


class Witness:
    """One PLC at one station."""

    def __init__(self, client: ModbusClient, timeout_s: float = 5.0) -> None:
        """timeout_s: for READY, for a result and for its fall."""
        self.client, self.timeout_s = client, timeout_s
        self.account = Account()
        self._beat: tuple[int, float] | None = (
            None  # the last heartbeat and since when it stands; None before the line is READY
        )
        self._sequence: int | None = None

    def run(self, parts: int, pause_s: Callable[[], float], name: str = "part") -> Account:
        """Triggers that many parts, called NAME-1 and so on. pause_s: seconds after each. Raises ModbusError when the line is gone."""
        self.client.write(_CONTROL, [0])
        before = self._counters()
        for number in range(1, parts + 1):
            self._part(f"{name}-{number}")
            self._rest(pause_s())
        self._compare(before, self._counters())
        return self.account

    def _part(self, part_id: str) -> None:
        if self._wait(lambda seen: seen["READY"] and not seen["BUSY"], f"{part_id}: no READY") is None:
            self.account.unanswered += 1
            return
        self.client.write(_PART_ID, words_of(part_id))
        start_s = time.perf_counter()
        self.client.write(_CONTROL, [TRIGGER_BIT])
        self.account.triggers += 1
        seen = self._wait(lambda seen: seen["RESULT_VALID"], f"{part_id}: no result")
        if seen is None:
            self.account.unanswered += 1
        else:
            self.account.result_ms.append(1e3 * (time.perf_counter() - start_s))
            self._check_result(part_id, seen)
            self._acknowledge(part_id)
        self.client.write(_CONTROL, [0])

    def _acknowledge(self, part_id: str) -> None:
        start_s = time.perf_counter()
        self.client.write(_CONTROL, [TRIGGER_BIT | ACK_BIT])
        seen = self._wait(lambda seen: not seen["RESULT_VALID"], f"{part_id}: RESULT_VALID does not fall with ACK")
        if seen is not None:
            self.account.release_ms.append(1e3 * (time.perf_counter() - start_s))
            self._expect(seen["REASON"] == 0 and not seen["PART_ID_ECHO"], f"{part_id}: its result stays after ACK")

    def _check_result(self, part_id: str, seen: dict[str, Any]) -> None:
        verdicts = [verdict for verdict in _VERDICTS if seen[verdict]]
        self._expect(len(verdicts) == 1, f"{part_id}: {len(verdicts)} verdicts at once: {verdicts}")
        for verdict in verdicts:
            self.account.verdicts[verdict] += 1
        self._expect(seen["PART_ID_ECHO"] == part_id, f"{part_id}: the result is of part '{seen['PART_ID_ECHO']}'")
        self._expect(seen["REASON"] != 0, f"{part_id}: a result without a reason")
        self._expect(not seen["ERROR"], f"{part_id}: ERROR {seen['ERROR_CODE']} at a trigger while READY")
        rises = self._sequence is None or 0 < (seen["SEQUENCE"] - self._sequence) % 2**32 < 2**31
        self._expect(rises, f"{part_id}: SEQUENCE {seen['SEQUENCE']} after {self._sequence}")
        self._sequence = seen["SEQUENCE"]

    def _rest(self, duration_s: float) -> None:
        """Watches the heartbeat between parts."""
        end_s = time.monotonic() + duration_s
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.1))
            self._look()

    def _wait(self, done: Callable[[dict[str, Any]], bool], violation: str) -> dict[str, Any] | None:
        """What is seen once it is done; None, and a violation, when it is not in time."""
        limit_s = time.monotonic() + self.timeout_s
        while time.monotonic() < limit_s:
            seen = self._look()
            if done(seen):
                return seen
            time.sleep(_POLL_S)
        self._expect(False, f"{violation} within {self.timeout_s:g} s")
        return None

    def _look(self) -> dict[str, Any]:
        """All outputs of one moment, and what must hold at any moment."""
        seen = decode(self.client.input_registers(0, INPUT_WORDS))
        self._expect(not (seen["READY"] and seen["BUSY"]), "READY and BUSY at once")
        verdicts = sum(seen[verdict] for verdict in _VERDICTS)
        self._expect(
            seen["RESULT_VALID"] == (verdicts == 1), f"RESULT_VALID is {seen['RESULT_VALID']} with {verdicts} verdicts"
        )
        if seen["READY"] or self._beat is not None:
            self._watch(seen["HEARTBEAT_COUNT"])
        return seen

    def _watch(self, beat: int) -> None:
        now_s = time.monotonic()
        if self._beat is None or self._beat[0] != beat:
            self._beat = (beat, now_s)
        stood_s = now_s - self._beat[1]
        if stood_s > _LONGEST_BEAT_S >= self.account.longest_beat_s:
            self._expect(False, f"the heartbeat stood still for {stood_s:.1f} s: reject")
        self.account.longest_beat_s = max(self.account.longest_beat_s, stood_s)

    def _counters(self) -> dict[str, int]:
        seen = self._look()
        self._expect(seen["MAP_VERSION"] == MAP_VERSION, f"register map {seen['MAP_VERSION']} instead of {MAP_VERSION}")
        return {name: seen[register] for name, register in _COUNTERS.items()}

    def _compare(self, before: dict[str, int], after: dict[str, int]) -> None:
        account = self.account
        account.line = {name: (after[name] - before[name]) % 2**32 for name in _COUNTERS}
        ours = {"triggers": account.triggers, **account.verdicts}
        for name, count in ours.items():
            self._expect(account.line[name] == count, f"{name}: the PLC counts {count}, the line {account.line[name]}")

    def _expect(self, holds: bool, violation: str) -> None:
        if not holds and len(self.account.violations) < _MOST_VIOLATIONS:
            self.account.violations.append(violation)


def decode(words: Sequence[int]) -> dict[str, Any]:
    """(INPUT_WORDS,) input registers → every signal and number by its name; HEARTBEAT is the bit, HEARTBEAT_COUNT the register."""
    seen: dict[str, Any] = {}
    for register in INPUT:
        values = words[register.address : register.address + register.words]
        if register.kind == "text":
            seen[register.name] = text_of(values)
        else:
            number = int.from_bytes(b"".join(value.to_bytes(2, "big") for value in values), "big")
            seen[register.name] = number - 2**32 if register.kind == "int32" and number >= 2**31 else number
    seen["HEARTBEAT_COUNT"] = seen["HEARTBEAT"]
    return seen | {name: bool(seen["STATUS"] >> bit & 1) for bit, name in enumerate(SIGNALS)}


def _percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max: nearest rank."""
    if not values_ms:
        return {}
    ranked = sorted(values_ms)
    nearest = {f"p{q}": ranked[math.ceil(q / 100 * len(ranked)) - 1] for q in (50, 95, 99)}
    return {name: round(value, 3) for name, value in (nearest | {"max": ranked[-1]}).items()}
