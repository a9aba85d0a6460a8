"""Frames from the capture thread go in, and whoever looks for pictures takes them; what nobody took in time is forgotten."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lad_edge.values import Frame


class Mailbox:
    """A receiver of `Capture` for those who want some picture, and not each one: a line has `Parts` instead."""

    def __init__(self, capacity: int = 1) -> None:
        """capacity: frames that wait; then the newest takes the place of the oldest."""
        self._frames: deque[Frame] = deque(maxlen=capacity)
        self._closed = False
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> bool:
        """Stores a frame; False once the mailbox is closed."""
        with self._changed:
            if not self._closed:
                self._frames.append(frame)
                self._changed.notify_all()
            return not self._closed

    def take(self, timeout_s: float) -> Frame | None:
        """The oldest frame inside; None when nothing came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed, timeout_s)
            return self._frames.popleft() if self._frames else None

    def reopened(self) -> None:
        """Nothing: who takes the pictures is told of each fault."""

    def close(self) -> None:
        """No frame enters any more; those inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Closed and empty: nothing will ever come again."""
        with self._changed:
            return self._closed and not self._frames
