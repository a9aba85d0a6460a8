"""Notices of a line go in; those that a person can read come out: what says the same again and again is counted (reliability.md F33)."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 10  # notices that differ in their numbers alone, in one period
PERIOD_S = 60.0
_KINDS = 256  # that are remembered


@dataclass
class _Kind:
    """since_s: when its period began; told, held_back: in it."""

    since_s: float
    told: int = 0
    held_back: int = 0


class Notices:
    """Takes notices from any thread, so that an error with every part fills neither a journal nor a disk."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        """Tells it, or counts that it was not told; the next one that is told says how many there were."""
        with self._lock:
            before = self._held_back(re.sub(r"\d+(\.\d+)?", "#", text))
        if before is not None:
            self.tell(f"{text} (and {before} more like it)" if before else text)

    def _held_back(self, key: str) -> int | None:
        """How many like it have not been told; None = nor is this one."""
        now_s = time.monotonic()
        kind = self._kinds.setdefault(key, _Kind(now_s))
        self._kinds.move_to_end(key)
        if len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)
        before = kind.held_back
        if now_s - kind.since_s >= PERIOD_S:
            kind.since_s, kind.told, kind.held_back = now_s, 0, 0
        if kind.told == MOST:
            kind.held_back += 1
            return None
        kind.told += 1
        return before
