"""Messages of the line go in; each viewer takes the newest of every kind, in its own time.

Nothing is queued for anybody: a message has a slot, and the next one of its kind takes its place. A viewer remembers the number of
the last one that it was sent. So a viewer costs the same however slow it is, and a slow one sees fewer pictures, never old ones
(reliability.md F34).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from lad_edge.dashboard.messages import Message

_REJECT_SLOTS = 24
_REMEMBERED_BYTES = 24 << 20  # of parts that an operator may still label
_FRESH_S = 2.0

Slot = tuple[str, str, int]


class Hub:
    """Of one event loop."""

    def __init__(self) -> None:
        self.on_viewers: Callable[[int], object] = lambda _viewers: None
        self._slots: dict[Slot, tuple[int, Message]] = {}
        self._parts: deque[Message] = deque()
        self._number = self._viewers = self._remembered_bytes = 0
        self._rejects: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._heard_s = float("-inf")

    @property
    def ready(self) -> bool:
        """Whether the line feeds the page, and every camera of it moves and has its picture."""
        states = [message.head for (_, kind, _), (_, message) in self._slots.items() if kind == "state"]
        fresh = asyncio.get_running_loop().time() - self._heard_s < _FRESH_S
        moving = all(
            each["status"] != "live" and not (each["lost"] or each["ended"]) and each["beat_age_s"] < _FRESH_S
            for each in states
        )
        return bool(states) and fresh and moving

    def put(self, message: Message) -> None:
        """Takes the place of what was there."""
        camera, kind = message.head["camera"], message.head["kind"]
        index = 0
        if kind == "reject":
            index = self._rejects.get(camera, 0)
            self._rejects[camera] = (index + 1) % _REJECT_SLOTS
        self._number += 1
        self._slots[camera, kind, index] = self._number, message
        self._heard_s = asyncio.get_running_loop().time()
        if kind != "state":
            self._remember(message)
        self._changed.set()
        self._changed = asyncio.Event()

    def find(self, camera: str, seq: int) -> Message | None:
        """A part that was shown lately, the newest of this number."""
        rejects = [message for (_, kind, _), (_, message) in self._slots.items() if kind == "reject"]
        for message in (*reversed(self._parts), *rejects):
            if message.head["camera"] == camera and message.head["record"]["seq"] == seq:
                return message
        return None

    async def newest(self) -> AsyncGenerator[Message, None]:
        """What one viewer shall be sent, for ever; the caller takes the next one when it has sent the last one."""
        sent = 0
        self._count_viewer(+1)
        try:
            while True:
                changed = self._changed
                waiting = [entry for entry in self._slots.values() if entry[0] > sent]
                if waiting:
                    sent, message = min(waiting, key=lambda entry: entry[0])
                    yield message
                else:
                    await changed.wait()
        finally:
            self._count_viewer(-1)

    def _count_viewer(self, step: int) -> None:
        self._viewers += step
        self.on_viewers(self._viewers)

    def _remember(self, message: Message) -> None:
        self._parts.append(message)
        self._remembered_bytes += len(message.data)
        while self._remembered_bytes > _REMEMBERED_BYTES:
            self._remembered_bytes -= len(self._parts.popleft().data)
