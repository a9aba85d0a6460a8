"""SIGINT and SIGTERM go in; the line ends cleanly within two seconds, even while native code holds the main thread."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from lad_edge.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_GRACE_S = 1.5  # for the clean way; last words and exit fit into the rest of the 2 s
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """While entered, the first signal sets `requested`; a second one, or an overstayed grace, ends the process at once.

    A Python signal handler waits for the main thread, which may sit in a driver or an engine for seconds. The signal
    number also goes to a socket, though, and a thread of its own watches that. Enter it in the main thread only.
    """

    def __init__(self) -> None:
        self.last_words: Callable[[], bool] = lambda: True  # writes what must not be lost; False when it could not
        self._requested, self._reload = threading.Event(), threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._watcher = threading.Thread(target=self._watch, name="stop-signal", daemon=True)

    def requested(self) -> bool:
        """True once somebody asked for the end."""
        return self._requested.is_set()

    def request(self) -> None:
        """Asks for the end from inside the process."""
        self._requested.set()

    def reload_requested(self) -> bool:
        """True once for each SIGHUP."""
        asked = self._reload.is_set()
        self._reload.clear()
        return asked

    def __enter__(self) -> StopSignal:
        self._writer.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._old = {number: signal.signal(number, self._note) for number in _SIGNALS}
        self._old[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._note_reload)  # a closed terminal is not a stop
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        self._writer.close()  # the watcher reads the end and returns
        self._watcher.join()
        self._reader.close()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._requested.set()

    def _note_reload(self, _number: int, _frame: FrameType | None) -> None:
        self._reload.set()

    def _watch(self) -> None:
        if not self._next_signal(None):
            return
        self._requested.set()
        with suppress(TimeoutError):
            if not self._next_signal(_GRACE_S):
                return
        os._exit(0 if self.last_words() else SinkError.exit_code)

    def _next_signal(self, timeout_s: float | None) -> bool:
        """True for a signal that asks for the end, False for the end of the watch. Raises TimeoutError."""
        self._reader.settimeout(timeout_s)
        number = self._reader.recv(1)
        while number == bytes([signal.SIGHUP]):
            number = self._reader.recv(1)
        return bool(number)
