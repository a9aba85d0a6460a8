"""Frames from the capture thread go in, the loop takes them in order; losers come out too, as DROPPED frames."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from lad_edge.values import Frame, Reason

_MOST_LOSERS = 10_000  # minutes of a camera whose inspector hangs: memory stays bounded, the driver drops from then on
_DROPPED = "newer frames arrived while the inspector was busy"


class Mailbox:
    """Bounded queue between two threads; it numbers the frames, so that no captured frame can be lost silently.

    capacity 1 with `wait_when_full=False`: the newest frame wins. With `wait_when_full=True`: the source is held back.
    """

    def __init__(self, capacity: int, *, wait_when_full: bool, first_seq: int = 1) -> None:
        self.capacity, self.wait_when_full = capacity, wait_when_full
        self.dropped = 0
        self._next_seq = first_seq
        self._frames: deque[Frame] = deque()
        self._losers: list[Frame] = []
        self._closed = False
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> bool:
        """Numbers and stores a frame; False once the mailbox is closed, and the frame was not taken over."""
        with self._changed:
            while self._must_wait() and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._frames.append(replace(frame, seq=self._next_seq))
            self._next_seq += 1
            self._drop_oldest()
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float) -> list[Frame]:
        """The losers since the last call and the next frame, in order of seq; empty when nothing came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed, timeout_s)
            taken, self._losers = self._losers, []
            if self._frames:
                taken.append(self._frames.popleft())
            if taken:
                self._changed.notify_all()
            return taken

    def take_all(self) -> list[Frame]:
        """Everything that is inside, in order of seq, without waiting."""
        with self._changed:
            taken = [*self._losers, *self._frames]
            self._losers = []
            self._frames.clear()
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """No frame enters any more; those inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Closed and empty: nothing will ever come again."""
        with self._changed:
            return self._closed and not self._frames and not self._losers

    def _must_wait(self) -> bool:
        full = self.wait_when_full and len(self._frames) >= self.capacity
        return full or len(self._losers) >= _MOST_LOSERS

    def _drop_oldest(self) -> None:
        while len(self._frames) > self.capacity:
            loser = self._frames.popleft()
            self._losers.append(replace(loser, image=None, fault=loser.fault or Reason.DROPPED, fault_detail=_DROPPED))
            self.dropped += 1
