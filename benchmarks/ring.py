"""What a driver process costs: a 1280×1024 bgr8 frame from the driver's memory to an array in the parent: python -m benchmarks.ring.

In turns: frames through the ring; the same through a multiprocessing pipe (pickled bytes), as is usually done; a plain copy. The
driver has its next frame always ready, so a read is its copy, the wake-up and the view. Then frames every 10 ms, and how old each is
when the reader has it. Each frame is checked: its last pixel must be the one that its number asks for.
"""

from __future__ import annotations

import json
import sys
import time
from multiprocessing import Pipe, Process
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Contest, Timing, compare, finish, options, show, start
from lad_edge.sources.child import DriverSource, Limits
from lad_edge.sources.interpreters import environment
from lad_edge.sources.ring import STATEMENT_SLOT
from lad_edge.sources.worker.driver import DriverError, Room, Shot
from lad_edge.sources.worker.serving import Outlet, die_with_parent, now, serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_WIDTH, _HEIGHT = 1280, 1024
_BYTES = 3 * _WIDTH * _HEIGHT
_PACED = 500  # frames
_ROW = 50  # frames in one call, many more than the ring holds


class MemoryDriver:
    """Delivers from its own memory, as a camera's driver does. request: period_s between two frames, 0 = always ready."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._period_s, self._number = float(request["period_s"]), 0
        self._frame = np.random.default_rng(0).integers(0, 256, _BYTES, np.uint8)

    def open(self) -> str:
        """Nothing to open."""
        return "memory"

    def read(self, room: Room) -> Shot | None:
        """The same picture, with its number in the last pixel."""
        time.sleep(self._period_s)
        while (pixels := room()) is None:  # wait for the reader instead of dropping: each read shall be one frame
            time.sleep(20e-6)
        moment = now()
        self._number += 1
        self._frame[-1] = self._number % 256
        pixels[:_BYTES] = self._frame.data
        return Shot(*moment, _WIDTH, _HEIGHT, _BYTES, "bgr8", self._number)

    def trigger(self) -> None:
        """Raises DriverError."""
        raise DriverError("not triggered")

    def close(self) -> None:
        """Nothing to close."""


def main() -> None:
    """Measures, and checks every frame that came through the ring."""
    arguments = options(__doc__ or "").parse_args()
    pace = start(arguments)
    source, image = open_memory(0.0), np.random.default_rng(0).integers(0, 256, _BYTES, np.uint8)
    theirs, ours = Pipe()
    sender = Process(target=_send, args=(theirs,), daemon=True)
    sender.start()
    ways = {
        "ring": lambda: _row_of(lambda: _read(source)),
        "pickled through a pipe": lambda: _row_of(lambda: _ask(ours)),
        "copy in this process": lambda: _row_of(image.copy),
    }
    contests = [compare(f"{_ROW} frames of 1280×1024 bgr8, one after the other", ways, pace)]
    source.close()
    sender.terminate()
    contests.append(_ages())
    for contest in contests:
        show(contest)
    finish(arguments, contests)


def _row_of(get: Callable[[], object]) -> None:
    """No frame is kept: the line does not keep them either."""
    for _ in range(_ROW):
        get()


def serve_here() -> None:
    """The driver process: its request and its pipes are those of lad_edge.sources.worker."""
    die_with_parent()
    outlet = Outlet(int(sys.argv[1]), sys.stdin.fileno(), int(sys.argv[2]))
    request = json.loads(outlet.ring.read_text(STATEMENT_SLOT, outlet.ring.read(STATEMENT_SLOT).bytes))
    serve(outlet, lambda: MemoryDriver(request))


def open_memory(period_s: float) -> DriverSource:
    """A source whose driver process is `MemoryDriver`; it is open."""
    program = f"import sys; sys.path.insert(0, {environment()['PYTHONPATH']!r}); from benchmarks.ring import serve_here; serve_here()"
    request = {"period_s": period_s}
    source = DriverSource("memory", "memory", request, Limits(5.0), command=[sys.executable, "-c", program])
    source.open()
    return source


def _read(source: DriverSource) -> float:
    """Age of the frame in µs when it was there. Raises AssertionError for a wrong one."""
    frame = source.read()
    arrived_ns = time.monotonic_ns()
    assert frame is not None
    assert frame.image is not None
    assert frame.image[-1, -1, -1] == int(frame.frame_id.rpartition("#")[2]) % 256
    return (arrived_ns - frame.captured_ns) / 1e3


def _ages() -> Contest:
    source = open_memory(0.01)
    ages = np.array([_read(source) for _ in range(_PACED)][20:])
    source.close()
    p50, p95, p99 = np.percentile(ages, (50, 95, 99))
    timing = Timing("from capture to the reader", float(p50), float(p95), float(p99), float(ages.max()), ages.size, 1)
    return Contest("age of a frame on arrival, one every 10 ms", (timing,))


def _send(connection: Connection) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8)
    while connection.recv():
        connection.send(frame)


def _ask(connection: Connection) -> Any:
    connection.send(True)
    return connection.recv()


if __name__ == "__main__":
    main()
