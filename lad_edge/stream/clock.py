"""The wall clock goes in, which labels records and decides nothing; why its labels are not to be believed comes out.

Whatever is counted in time here is counted on the monotonic clock; a wall clock that jumps changes labels alone (reliability.md B13, F13).
A clock that nobody has ever synchronised is no trouble of a line: boxes without a network have such, and `lad-edge doctor` tells.
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_JUMP_S = 0.5
_STEERED = 1e-3  # of the time that has passed: twice as fast as the kernel steers a clock
_REMEMBERED_S = 600.0  # labels from before and after a jump stand side by side for that long
_RELEASED_S = 1_767_225_600  # 2026-01-01: no earlier time can be now
_UNSYNCHRONISED = 0x40  # STA_UNSYNC, adjtimex(2)
_STATUS_AT = 5 * ctypes.sizeof(ctypes.c_long)  # in struct timex: modes and four longs stand before it
_TIMEX_BYTES = 512  # more than any struct timex has


def synchronised() -> bool | None:
    """Whether the kernel counts its clock as synchronised by NTP or PTP; None where it may not be asked."""
    state = ctypes.create_string_buffer(_TIMEX_BYTES)
    if ctypes.CDLL(None).adjtimex(state) < 0:
        return None
    return not ctypes.c_int.from_buffer(state, _STATUS_AT).value & _UNSYNCHRONISED


class WallClock:
    """Looked at now and then by one thread; it compares what it sees with the monotonic clock."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, synchronised: Callable[[], bool | None] = synchronised
    ) -> None:
        """wall_ns: since 1970. synchronised: what the kernel says."""
        self._wall_ns, self._synchronised = wall_ns, synchronised
        self._was_synchronised = False
        self._seen_s = time.monotonic()
        self._ahead_s = self._ahead()
        self._jump_s, self._jumped_s = 0.0, -_REMEMBERED_S

    def doubt(self) -> str:
        """Why the labels of now are not to be believed, for a person; "" = nothing speaks against them."""
        now_s, ahead_s = time.monotonic(), self._ahead()
        jump_s, passed_s = ahead_s - self._ahead_s, now_s - self._seen_s
        self._seen_s, self._ahead_s = now_s, ahead_s
        if abs(jump_s) > _JUMP_S + _STEERED * passed_s:
            self._jump_s, self._jumped_s = jump_s, now_s
        if self._wall_ns() < 1e9 * _RELEASED_S:
            return "the wall clock is before 2026: set it, or let it be synchronised"
        if now_s - self._jumped_s < _REMEMBERED_S:
            return f"the wall clock was set {'forward' if self._jump_s > 0 else 'back'} by {abs(self._jump_s):.1f} s"
        return self._lost_synchronisation()

    def _ahead(self) -> float:
        return (self._wall_ns() - time.monotonic_ns()) / 1e9

    def _lost_synchronisation(self) -> str:
        synchronised = self._synchronised()
        self._was_synchronised |= bool(synchronised)
        lost = self._was_synchronised and synchronised is False
        return "the wall clock is no longer synchronised: look after the NTP or PTP server" if lost else ""
