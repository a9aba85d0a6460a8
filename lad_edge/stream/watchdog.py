"""Stages of a line say that they move; systemd hears of it only while all of them do (reliability.md §1.4, step 4)."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

STALE_S = 2.0  # a stage that has not moved for so long has stopped
_PERIOD_S = 0.5


class Beats:
    """When each stage last moved, on the monotonic clock. From any thread."""

    def __init__(self) -> None:
        self._last_s: dict[str, float] = {}

    def beat(self, stage: str) -> None:
        """The stage moves, or it has looked and there is nothing to do."""
        self._last_s[stage] = time.monotonic()

    def leave(self, stage: str) -> None:
        """The stage has ended as it should; nobody waits for it any more."""
        self._last_s.pop(stage, None)

    def moving(self) -> bool:
        """Some stage has moved, and none has stopped."""
        return bool(self._last_s) and not self.stuck()

    def stuck(self) -> list[str]:
        """Stages that have stopped, by name."""
        now_s = time.monotonic()
        return sorted(stage for stage, last_s in self._last_s.copy().items() if now_s - last_s > STALE_S)


class ServiceNotifier:
    """Tells systemd (`Type=notify`): ready, a line of status, stopping, and that the line moves. Silent where nobody listens.

    A free-running timer would feed the watchdog of a dead line: it is fed only while no stage is stuck.
    """

    def __init__(self, beats: Beats, status: Callable[[], str], address: str | None = None) -> None:
        """status: a line for a person, asked for twice a second. address: of systemd's socket; None = $NOTIFY_SOCKET."""
        self.beats, self.status = beats, status
        self._address = os.environ.get("NOTIFY_SOCKET") if address is None else address
        self._socket: socket.socket | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._report, name="systemd", daemon=True)

    def ready(self) -> None:
        """The line can judge parts."""
        self._send("READY=1")

    def __enter__(self) -> Self:
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._send("STOPPING=1")
            self._ended.set()
            self._thread.join()
            self._socket.close()

    def _report(self) -> None:
        while not self._ended.wait(_PERIOD_S):
            stuck = self.beats.stuck()
            if stuck:
                self._send(f"STATUS=stopped: {', '.join(stuck)}")
            else:
                self._send(f"WATCHDOG=1\nSTATUS={self.status()}")

    def _send(self, text: str) -> None:
        if self._socket is not None and self._address:
            path = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
            with suppress(OSError):  # systemd is restarting, or gone: the line goes on without it
                self._socket.sendto(text.encode(), path)
