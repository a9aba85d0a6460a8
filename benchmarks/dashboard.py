"""What the operator's page costs the line: python -m benchmarks.dashboard.

A line with a camera that delivers 1280×1024 bgr8 at 100 pictures a second and an engine that costs nothing, in turns: bare, with a page at
which nobody looks, with 20 viewers that read all, with 200 clients that read a few bytes a second. The time is from capture to the end of
all sinks. Then the page's own `write`. The viewers run on this machine too, in a process of their own. Before a round counts, the viewers
must have seen its parts, and the page must have counted every one.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np

from benchmarks.harness import Contest, Timing, compare, finish, options, show, start
from benchmarks.plc import Inside, NullInspector
from lad_edge.dashboard.feed import CameraFeed, Dashboard
from lad_edge.dashboard.process import Settings
from lad_edge.sources.source import frame_now
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.values import Frame

_PERIOD_S, _PARTS, _SKIPPED = 0.01, 300, 50
_SETTLE_S = 1.5
_PICTURES = [
    cv2.resize(np.random.default_rng(seed).integers(0, 256, (64, 80, 3), np.uint8), (1280, 1024)) for seed in range(4)
]
_WAYS = {"bare": None, "page, nobody looks": (0, 0), "20 viewers": (20, 0), "200 slow clients": (0, 200)}


class Camera:
    """Live, steady, never late by itself."""

    name, live, free_running = "camera", True, True

    def __init__(self) -> None:
        self._number = 0
        self._due_s = time.monotonic()

    def open(self) -> None:
        """Nothing to open."""

    def read(self) -> Frame | None:
        """The next picture at its time."""
        self._number += 1
        self._due_s += _PERIOD_S
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        return frame_now(f"camera#{self._number}", _PICTURES[self._number % len(_PICTURES)])

    def close(self) -> None:
        """Nothing to close."""

    def trigger(self) -> None:
        """Nothing waits for it."""

    def interrupt(self) -> None:
        """No read waits for long."""


def main() -> None:
    """Rounds in turns."""
    arguments = options(__doc__ or "").parse_args()
    pace = start(arguments)
    rounds: dict[str, list[np.ndarray]] = {name: [] for name in _WAYS}
    for _ in range(pace.rounds):
        for name, clients in _WAYS.items():
            rounds[name].append(_round(clients))
    contests = [_contest(rounds), compare("CameraFeed.write", {"write": _writer()}, pace)]
    for contest in contests:
        show(contest)
    finish(arguments, contests)


def _round(clients: tuple[int, int] | None) -> np.ndarray:
    """µs from capture to the end of the sinks, of each part."""
    inside, ended = Inside(), threading.Event()
    with ExitStack() as stack:
        feeds = [] if clients is None else [stack.enter_context(_page(*clients))]
        line = Line(Camera(), NullInspector(), [*feeds, inside], LineOptions(stop=ended.is_set))  # type: ignore[arg-type]
        for feed in feeds:
            feed.follow(line)
        thread = threading.Thread(target=line.run)
        thread.start()
        while len(inside.samples_us) < _PARTS:
            time.sleep(0.05)
        ended.set()
        thread.join()
        time.sleep(3 * _PERIOD_S)
    for feed in feeds:
        list(feed.messages(watched=True))
        counted = sum(feed.tally.verdicts.values())
        assert counted == feed.written >= _PARTS, (counted, feed.written)
    return np.array(inside.samples_us[_SKIPPED:])


@contextmanager
def _page(viewers: int, slow: int) -> Iterator[CameraFeed]:
    dashboard = Dashboard(Settings("127.0.0.1", 0), print)
    feed = CameraFeed("camera", {"engine": "null", "source": "camera", "deadline_ms": None})
    dashboard.add(feed)
    program = f"from benchmarks.dashboard import visit; visit({dashboard.port}, {viewers}, {slow})"
    clients = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    try:
        assert clients.stdout is not None
        assert clients.stdout.readline() == "there\n"
        time.sleep(_SETTLE_S)
        yield feed
    finally:
        clients.terminate()
        told = clients.communicate()[0]
        dashboard.close()
        assert dashboard.starts == 1
    assert told == "" or not viewers, told


def visit(port: int, viewers: int, slow: int) -> None:
    """The clients' process."""
    os.nice(10)
    asyncio.run(_visit(port, viewers, slow))


async def _visit(port: int, viewers: int, slow: int) -> None:
    tasks = [asyncio.ensure_future(_view(port, 1 << 20, 0.0)) for _ in range(viewers)]
    tasks += [asyncio.ensure_future(_view(port, 4, 1.0)) for _ in range(slow)]
    print("there", flush=True)
    for task in asyncio.as_completed(tasks) if viewers else ():
        print(f"a viewer was let go: {await task}", flush=True)
    await asyncio.sleep(3600)


async def _view(port: int, bytes_at_once: int, pause_s: float) -> str:
    """Reads that much, again and again; a slow one comes back when it was let go. Says why it ended."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 10 if pause_s else 1 << 21)
            writer.write(b"GET /feed HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while await reader.read(bytes_at_once):
                await asyncio.sleep(pause_s)
        except OSError as exc:
            if not pause_s:
                return str(exc)
        if not pause_s:
            return "the stream ended"
        await asyncio.sleep(1.0)


def _writer() -> Callable[[], object]:
    feed, frame = CameraFeed("camera", {}), frame_now("camera#1", _PICTURES[0])
    result = NullInspector().inspect(frame)
    return lambda: feed.write(frame, result)


def _contest(rounds: dict[str, list[np.ndarray]]) -> Contest:
    """All parts of all rounds: on a busy machine the best round says little about the p99."""
    return Contest(
        "from capture to the end of the sinks, engine takes no time", tuple(_timing(*each) for each in rounds.items())
    )


def _timing(name: str, taken: Sequence[np.ndarray]) -> Timing:
    samples = np.concatenate(taken)
    p50, p95, p99 = np.percentile(samples, (50, 95, 99))
    return Timing(name, float(p50), float(p95), float(p99), float(samples.max()), samples.size, len(taken))


if __name__ == "__main__":
    main()
