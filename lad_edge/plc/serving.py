"""A coroutine goes in and runs on an event loop in a thread of its own; the line never waits for it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import TimeoutError as FutureTimeoutError  # the built-in one from Python 3.11 on
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_JOIN_S = 1.0
Value = TypeVar("Value")


class LoopThread:
    """An asyncio loop in a daemon thread."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Value], timeout_s: float) -> Value:
        """Waits for the coroutine, from another thread. Raises what it raises, and TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError as exc:
            future.cancel()
            raise TimeoutError(f"{self._thread.name} did not answer within {timeout_s:g} s") from exc

    def soon(self, call: Callable[[], object]) -> None:
        """Calls it on the loop; never waits. Nothing happens once the loop has ended."""
        if not self.loop.is_closed():
            try:
                self.loop.call_soon_threadsafe(call)
            except RuntimeError:  # closed in between
                return

    def every(self, period_s: float, call: Callable[[], object]) -> None:
        """Calls it on the loop again and again, until the end."""

        def again() -> None:
            self.loop.call_later(period_s, again)
            call()

        self.soon(again)

    def close(self) -> None:
        """Cancels what still runs and ends the thread."""
        self.soon(self.loop.stop)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            self.loop.close()
