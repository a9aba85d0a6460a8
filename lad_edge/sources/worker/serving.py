"""The loop of a driver process: wait for the word to open, open, send frames until the driver gives up, and again."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lad_edge.sources.ring import ALIVE, OPEN, READY, SLOTS, STATEMENT_SLOT, TRIGGER, Kind, Message, Ring
from lad_edge.sources.worker.driver import DriverError, Shot

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.sources.worker.driver import Driver

_PR_SET_PDEATHSIG = 1


class ParentGone(Exception):  # noqa: N818 - the end, not an error
    """The other end of the pipe is closed."""


class Outlet:
    """The driver's end of the ring and of its two pipes."""

    def __init__(self, memory: int, commands: int, messages: int) -> None:
        """File descriptors: the memory, a pipe to read from, a pipe to write to."""
        self.ring = Ring(memory)
        self._commands, self._messages = commands, messages
        self._free: list[int] = []  # the one freed last is taken first: it is still in the cache
        self.chosen: int | None = None  # the slot that `room` gave last
        self._sequence = 0
        self.triggers = 0  # asked for, and not yet passed on to the driver

    def wait_for_open(self) -> None:
        """Says that it is ready, and returns at the word to open. Raises ParentGone."""
        self._tell(READY)
        while not self._take_commands():
            pass

    def room(self) -> memoryview | None:
        """Memory of the slot that `send` will send; None if the parent holds them all."""
        self.take_waiting_commands()
        free = [slot for slot in self._free if slot != STATEMENT_SLOT]
        self.chosen = free[-1] if free else None
        return None if self.chosen is None else self.ring.pixels(self.chosen)

    def take_waiting_commands(self) -> None:
        """Returns at once, whether there are any or not. Raises ParentGone."""
        if select.select([self._commands], [], [], 0)[0]:
            self._take_commands()

    def alive(self) -> None:
        """Nothing came, and nothing is wrong."""
        self._tell(ALIVE)

    def send(self, slot: int, message: Message) -> None:
        """What lies in the slot."""
        self._sequence += 1
        self._free.remove(slot)
        self.ring.write(slot, replace(message, sequence=self._sequence))
        self._tell(slot)

    def say(self, message: Message, text: str) -> None:
        """Words, through the slot that is kept for them; the parent reads it at once."""
        while STATEMENT_SLOT not in self._free:
            self._take_commands()
        self.send(STATEMENT_SLOT, replace(message, bytes=self.ring.write_text(STATEMENT_SLOT, text)))

    def _take_commands(self) -> bool:
        """Waits for at least one command; True if OPEN was among them. Raises ParentGone."""
        commands = os.read(self._commands, 4 * SLOTS)
        if not commands:
            raise ParentGone
        self._free += [command for command in commands if command < SLOTS]
        self.triggers += commands.count(TRIGGER)
        return OPEN in commands

    def _tell(self, byte: int) -> None:
        try:
            os.write(self._messages, bytes([byte]))
        except BrokenPipeError as exc:
            raise ParentGone from exc


def serve(outlet: Outlet, make_driver: Callable[[], Driver]) -> None:
    """Opens and reads for as long as the parent lives; each time with a driver made anew."""
    with suppress(ParentGone):
        while True:
            outlet.wait_for_open()
            outlet.triggers = 0
            _run(outlet, make_driver())


def die_with_parent() -> None:
    """The kernel kills this process with the thread that started it, even while a driver hangs; Ctrl-C and core files are not for it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run(outlet: Outlet, driver: Driver) -> None:
    try:
        outlet.say(Message(Kind.OPENED), driver.open())
        _forward(outlet, driver)
    except DriverError as exc:
        outlet.say(Message(Kind.LOST, reason=exc.reason), str(exc))
    except ParentGone:
        raise
    except Exception as exc:  # of a driver's library: its types are known in its own file only
        outlet.say(Message(Kind.LOST, reason="CAMERA_LOST"), f"{type(exc).__name__}: {exc}")
    finally:
        with suppress(Exception):
            driver.close()


def _forward(outlet: Outlet, driver: Driver) -> None:
    dropped = missing = 0
    while True:
        _pull_triggers(outlet, driver)
        shot = driver.read(outlet.room)
        if shot is None:
            outlet.alive()
            continue
        missing += shot.missing
        message = _message(shot, dropped, missing)
        if shot.fault:
            outlet.say(message, shot.detail)
        elif outlet.chosen is not None:
            outlet.send(outlet.chosen, message)
        else:
            dropped += 1
            continue
        dropped = missing = 0


def _pull_triggers(outlet: Outlet, driver: Driver) -> None:
    outlet.take_waiting_commands()
    for _ in range(outlet.triggers):
        driver.trigger()
    outlet.triggers = 0


def _message(shot: Shot, dropped: int, missing: int) -> Message:
    return Message(
        Kind.FAULT if shot.fault else Kind.FRAME,
        device_id=shot.device_id,
        captured_ns=shot.captured_ns,
        utc_ns=shot.utc_ns,
        width=shot.width,
        height=shot.height,
        bytes=shot.bytes,
        dropped=dropped,
        missing=missing,
        pixel_format=shot.pixel_format,
        reason=shot.fault,
    )


def now() -> tuple[int, int]:
    """The moment of a capture: monotonic and wall clock in ns."""
    return time.monotonic_ns(), time.time_ns()
