"""Sources and sinks whose every step the test decides; everything between them is the real part."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from lad_edge.errors import SinkError, SourceError
from lad_edge.sources.source import fault_now, frame_now
from lad_edge.values import Frame, Reason, Result

Step = Frame | Callable[[], Frame | None]


class ScriptedSource:
    """Delivers the steps in order; a callable step is called, and may block. `reopen_failures` attempts to open fail."""

    def __init__(self, steps: Iterable[Step], *, live: bool, name: str = "scripted") -> None:
        self.name, self.live, self.free_running = name, live, live
        self.steps = iter(steps)
        self.open_failures: list[str] = []
        self.opened = self.triggered = 0
        self.exhausted = threading.Event()

    def open(self) -> None:
        if self.open_failures:
            raise SourceError(self.open_failures.pop(0))
        self.opened += 1

    def read(self) -> Frame | None:
        step = next(self.steps, None)
        if step is None:
            self.exhausted.set()
            return None
        return step() if callable(step) else step

    def close(self) -> None:
        pass

    def trigger(self) -> None:
        self.triggered += 1

    def interrupt(self) -> None:
        pass


class CollectingSink:
    """Keeps results; `before` is called first, and may block or raise."""

    def __init__(self, before: Callable[[Result], None] = lambda result: None) -> None:
        self.results: list[Result] = []
        self.frames: list[Frame] = []
        self.before = before

    def write(self, frame: Frame, result: Result) -> None:
        self.before(result)
        self.frames.append(frame)
        self.results.append(result)

    def close(self) -> None:
        pass

    @property
    def seqs(self) -> list[int]:
        return [result.seq for result in self.results]


def fail_at(seq: int) -> Callable[[Result], None]:
    """A sink's `before` that fails for that record."""

    def before(result: Result) -> None:
        if result.seq == seq:
            raise SinkError(f"scripted: record {seq} cannot be kept")

    return before


def frame(image: object, name: str = "frame") -> Frame:
    return frame_now(name, image)  # type: ignore[arg-type]


def lost() -> Frame:
    return fault_now("lost", Reason.CAMERA_LOST, "scripted: the cable is out")
