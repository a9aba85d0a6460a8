"""A wall clock that jumps, stands in 1970 or loses its server is told; one that is steered, or was never synchronised, is not."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import pytest

from lad_edge.stream.clock import WallClock, synchronised

HOUR_S, YEAR_S = 3600.0, 365.25 * 86400


class Shifted:
    """The real wall clock, set by the test; of the kernel's state the test decides too."""

    def __init__(self) -> None:
        self.by_s = 0.0
        self.state: bool | None = None

    def wall_ns(self) -> int:
        return time.time_ns() + round(1e9 * self.by_s)

    def watched(self) -> WallClock:
        return WallClock(self.wall_ns, lambda: self.state)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass, for both clocks alike."""
    passed_s = [0.0]
    for name, unit in (("monotonic", 1.0), ("monotonic_ns", 1e9), ("time_ns", 1e9)):
        real = getattr(time, name)
        monkeypatch.setattr(time, name, lambda real=real, unit=unit: type(real())(real() + unit * passed_s[0]))
    return lambda seconds: passed_s.__setitem__(0, passed_s[0] + seconds)


@pytest.mark.parametrize("by_s", [1.0, -1.0, HOUR_S, -HOUR_S, 10 * YEAR_S])
def test_a_jump_is_told_with_its_direction_and_forgotten_after_a_while(
    by_s: float, at: Callable[[float], None]
) -> None:
    shifted = Shifted()
    clock = shifted.watched()
    assert clock.doubt() == ""
    shifted.by_s = by_s
    assert clock.doubt() == f"the wall clock was set {'forward' if by_s > 0 else 'back'} by {abs(by_s):.1f} s"
    at(599.0)
    assert clock.doubt() != ""
    at(2.0)
    assert clock.doubt() == ""


def test_a_clock_that_is_steered_has_not_jumped(at: Callable[[float], None]) -> None:
    shifted = Shifted()
    clock = shifted.watched()
    for _ in range(100):
        at(60.0)
        shifted.by_s += 60.0 * 500e-6  # as fast as the kernel does it
        assert clock.doubt() == ""


def test_a_box_that_boots_in_1970_is_told_at_once_and_for_as_long() -> None:
    shifted = Shifted()
    shifted.by_s = -time.time()
    clock = shifted.watched()
    assert "before 2026" in clock.doubt()
    assert "before 2026" in clock.doubt()


@pytest.mark.parametrize("never", [False, None])
def test_a_box_without_a_network_is_in_no_trouble_but_one_that_lost_its_server_is(never: bool | None) -> None:
    shifted = Shifted()
    clock = shifted.watched()
    shifted.state = never
    assert clock.doubt() == ""
    shifted.state = True
    assert clock.doubt() == ""
    shifted.state = False
    assert "no longer synchronised" in clock.doubt()


class Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def test_the_kernel_of_this_machine_is_asked() -> None:
    state = Timex()
    allowed = ctypes.CDLL(None).adjtimex(ctypes.byref(state)) >= 0
    assert synchronised() is (not state.status & 0x40 if allowed else None)
