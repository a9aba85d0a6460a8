"""A driver process from the outside: start it, take its messages, give slots back, kill it when it hangs."""

from __future__ import annotations

import json
import os
import select
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.sources.interpreters import environment, interpreter
from lad_edge.sources.ring import (
    ALIVE,
    HEADER_BYTES,
    OPEN,
    READY,
    SLOT_BYTES,
    SLOTS,
    STATEMENT_SLOT,
    TRIGGER,
    Kind,
    Message,
    Ring,
    make_memory,
)

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_START_S = 20.0  # imports on a slow and busy machine
_TEARDOWN_S = 0.5  # for a driver to give its camera back


class Hung(Exception):  # noqa: N818 - it is the driver that hangs
    """Nothing came in time, or what came was no message: the process was killed."""


class Beat:
    """What comes between messages: READY, the process waits for the word to open; ALIVE, it waits for a picture."""

    def __init__(self, byte: int) -> None:
        self.ready = byte == READY


class Lease:
    """Pixels in a slot that nobody else writes; the slot is given back when the last array on it is gone.

    mapped: the memory of all slots, for `lad_edge.runtime.page_locks`.
    """

    def __init__(self, process: DriverProcess, slot: int, dtype: str, shape: Sequence[int]) -> None:
        self._process, self._slot, self.mapped = process, slot, process.mapped
        address = process.address + slot * SLOT_BYTES + HEADER_BYTES
        self.__array_interface__ = {"data": (address, False), "shape": tuple(shape), "typestr": dtype, "version": 3}

    def __del__(self) -> None:
        self._process.give_back(self._slot)


class DriverProcess:
    """One memory, and one process after the other that fills it."""

    def __init__(
        self, driver: str, request: Mapping[str, object], command: Sequence[str] = (), *, farewell_s: float = 0.0
    ) -> None:
        """command: what is started instead of `lad_edge.sources.worker DRIVER`; gets the two descriptors as its last arguments.

        farewell_s: how long a driver that has lost its camera may go on giving it back, beside the next process.
        """
        self.driver, self.request, self._command, self._farewell_s = driver, request, list(command), farewell_s
        self._memory = make_memory()
        self._ring = Ring(self._memory)
        self.address = int(np.frombuffer(self._ring.memory, np.uint8).ctypes.data)
        self._leased: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._messages = -1
        self._interruption = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock = threading.RLock()  # slots come back from any thread, even out of the garbage collector

    @property
    def running(self) -> bool:
        """Whether a process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def started(self) -> bool:
        """Whether there is a process to listen to; it may have died, with words that nobody has read yet."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Of the process, for people and tests."""
        return self._process.pid if self._process is not None else None

    @property
    def mapped(self) -> mmap.mmap:
        """The memory of all slots."""
        return self._ring.memory

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return bool(select.select([self._interruption], [], [], 0)[0])

    def open(self, timeout_s: float) -> Message:
        """Starts a process if none is ready, tells it to open, returns OPENED or LOST. Raises Hung, MissingDependencyError."""
        if not (self.running and self._is_ready(_TEARDOWN_S)):
            self._leave_behind()
            self._start()
            if not self._is_ready(_START_S):
                self.kill()
                raise Hung("its process did not start")
        self._command_byte(OPEN)
        message = self.next(timeout_s)
        if isinstance(message, Beat):
            self.kill()
            raise Hung("its process lost the thread")
        return message

    def next(self, timeout_s: float) -> Message | Beat:
        """The next message. Raises Hung, after it has killed the process; InterruptedError after `interrupt`."""
        try:
            return self._receive(timeout_s)
        except Hung:
            self.kill()
            raise

    def text(self, message: Message) -> str:
        """The words of the message that came last; its slot may be used again afterwards."""
        words = self._ring.read_text(STATEMENT_SLOT, message.bytes)
        self.give_back(STATEMENT_SLOT)
        return words

    def picture(self, slot: int, dtype: str, shape: Sequence[int]) -> NDArray[np.generic]:
        """The pixels of a slot: in place while another slot is free, as a copy when the reader holds all but the last one."""
        with self._lock:
            self._leased.add(slot)
        view: NDArray[np.generic] = np.asarray(Lease(self, slot, dtype, shape))
        return view if len(self._leased) < SLOTS - 2 else view.copy()

    def give_back(self, slot: int) -> None:
        """The slot may be filled again."""
        with self._lock:
            self._leased.discard(slot)
            self._command_byte(slot)

    def trigger(self) -> None:
        """Lets the driver trigger its camera."""
        self._command_byte(TRIGGER)

    def interrupt(self) -> None:
        """Ends a wait, now or later; from any thread."""
        os.eventfd_write(self._interruption, 1)

    def kill(self) -> None:
        """Ends the process at once, wherever it is."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            process.kill()
            process.wait()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
            os.close(self._messages)

    def _leave_behind(self) -> None:
        """The process is told to end, and killed after its farewell; it writes to the memory no more, and its pipes are closed."""
        with self._lock:
            process = self._process
            if process is None or not self._farewell_s:
                self.kill()
                return
            self._process = None
            if process.stdin is not None:
                process.stdin.close()
            os.close(self._messages)
        threading.Thread(target=_bury, args=(process, self._farewell_s), daemon=True).start()

    def end(self) -> None:
        """Lets the driver give its camera back, then ends the process."""
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_TEARDOWN_S)
        self.kill()

    def __del__(self) -> None:
        self.kill()
        os.close(self._memory)
        os.close(self._interruption)

    def _start(self) -> None:
        """Raises MissingDependencyError."""
        command = self._command or [interpreter(self.driver), "-m", "lad_edge.sources.worker", self.driver]
        words = json.dumps(dict(self.request))
        self._ring.write(STATEMENT_SLOT, Message(Kind.REQUEST, bytes=self._ring.write_text(STATEMENT_SLOT, words)))
        messages, theirs = os.pipe2(os.O_CLOEXEC)
        with (
            self._lock
        ):  # a slot that comes back meanwhile must not be told twice: it would be filled while somebody reads it
            try:
                self._process = self._spawn([*command, str(self._memory), str(theirs)], theirs)
                self._messages = messages
            except OSError:
                os.close(messages)
                raise
            finally:
                os.close(theirs)
            for slot in set(range(SLOTS)) - self._leased:
                self._command_byte(slot)

    def _spawn(self, command: Sequence[str], messages: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # drivers print addresses with passwords
            env=environment(),
            cwd="/",
            pass_fds=(self._memory, messages),
            start_new_session=True,
            bufsize=0,
        )

    def _is_ready(self, timeout_s: float) -> bool:
        """Waits for READY; passes over what a lost driver still had to say."""
        limit_s = time.monotonic() + timeout_s
        with suppress(Hung):
            while (left_s := limit_s - time.monotonic()) > 0:
                message = self._receive(left_s)
                if not isinstance(message, Beat):
                    self.give_back(self.slot)
                elif message.ready:
                    return True
        return False

    def _receive(self, timeout_s: float) -> Message | Beat:
        """Raises Hung if nothing comes in time, or nonsense; InterruptedError after `interrupt`."""
        ready, _, _ = select.select([self._messages, self._interruption], [], [], timeout_s)
        if self._interruption in ready:
            raise InterruptedError
        byte = os.read(self._messages, 1) if ready else b""
        if not byte:
            raise Hung(f"its process {self._end()}" if ready else f"it has said nothing for {timeout_s:g} s")
        if byte[0] in (READY, ALIVE):
            return Beat(byte[0])
        return self._checked(byte[0])

    def _checked(self, slot: int) -> Message:
        """The header in the slot. Raises Hung if it makes no sense."""
        try:
            if slot >= SLOTS:
                raise ValueError(f"there is no slot {slot}")
            message = self._ring.read(slot)
        except ValueError as exc:
            raise Hung(f"its process wrote nonsense: {exc}") from exc
        self.slot = slot
        return message

    def _command_byte(self, byte: int) -> None:
        with self._lock, suppress(OSError, ValueError):  # gone, or closed: the next process is told anew
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(bytes([byte]))

    def _end(self) -> str:
        if self._process is None:
            return "is gone"
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_TEARDOWN_S)
        code = self._process.returncode
        return "closed its pipe" if code is None else f"died of signal {-code}" if code < 0 else f"ended with {code}"


def _bury(process: subprocess.Popen[bytes], after_s: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    process.kill()
    process.wait()
