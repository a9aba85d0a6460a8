"""Notices of a line go in; those that a person can read come out: what says the same again and again is counted (reliability.md F33)."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

MOST = 10  # notices that differ in their numbers alone, in one period
PERIOD_S = 60.0
_KINDS = 256  # that are remembered
_WAITING = 1000  # for a terminal or a journal
_LAST_S = 1.0  # for what is still to be told at the end


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


class Aside:
    """While entered, tells notices from a thread of its own: a terminal or a journal that takes none holds up no verdict.

    Those that find no room are left out (reliability.md V6).
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._waiting: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="notices", daemon=True)

    def __call__(self, text: str) -> None:
        """Hands it over, and never waits."""
        with suppress(queue.Full):
            self._waiting.put_nowait(text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(_LAST_S)

    def _work(self) -> None:
        while (text := self._waiting.get()) is not None:
            with suppress(OSError):  # a terminal that is gone is no reason to be silent towards the next one
                self._tell(text)
