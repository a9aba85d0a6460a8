"""What another thread or process does is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_S = 60.0  # nothing takes that long where all is well


def until(true: Callable[[], object]) -> None:
    """Fails when it never comes."""
    limit_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < limit_s, "it never came"
        time.sleep(0.005)
