"""A running line with a PLC server, as the tests of this room need it: real parts from the picture to the register."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from scripted import CollectingSink, ScriptedSource, frame
from tiny import good_picture, spotted_picture
from waiting import until

from lad_edge.inspector import Inspector
from lad_edge.plc import open_plc
from lad_edge.plc.station import Plc
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.watchdog import Beats
from lad_edge.values import Frame

WAIT_S = 20.0
PERIOD_S = 0.002


@dataclass
class Station:
    """hold: while set, the inspector of the line hangs in its next part."""

    line: Line
    plc: Plc
    records: CollectingSink
    beats: Beats
    notices: list[str] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def verdicts(self) -> list[str]:
        return [result.verdict.value for result in self.records.results]


@contextmanager
def station(
    inspector: Inspector,
    uri: str = "modbus://127.0.0.1:0",
    options: LineOptions | None = None,
    camera: Callable[[], Frame] | None = None,
) -> Iterator[Station]:
    """A line in a thread of its own; it has stopped at the end of the `with`."""
    beats, notices, records = Beats(), [], CollectingSink()  # type: ignore[var-annotated]
    plc = open_plc(uri, beats, notices.append)
    stopping = threading.Event()
    told = replace(options or LineOptions(), trigger=plc, stop=stopping.is_set, notice=notices.append)
    source = ScriptedSource(_pictures(stopping, camera or _mixed()), live=True)
    line = Line(source, inspector, [records, plc], told)
    line.beat = lambda: beats.beat("line")
    running = Station(line, plc, records, beats, notices, stopping=stopping)
    _hang_while_held(inspector, running)
    thread = threading.Thread(target=line.run)
    thread.start()
    try:
        until(lambda: plc.handshake.outputs.ready)
        yield running
    finally:
        running.hold.clear()
        stopping.set()
        thread.join(WAIT_S)
        plc.close()
    assert not thread.is_alive()


def _pictures(stopping: threading.Event, camera: Callable[[], Frame]) -> Iterator[Frame]:
    while not stopping.is_set():
        time.sleep(PERIOD_S)
        yield camera()


def _mixed() -> Callable[[], Frame]:
    """Two good pictures, then a bad one."""
    pictures = [good_picture(0), good_picture(1), spotted_picture(2)]
    taken = iter(range(1 << 30))
    return lambda: frame(pictures[next(taken) % len(pictures)])


def _hang_while_held(inspector: Inspector, running: Station) -> None:
    judge = inspector.inspect

    def inspect(picture: Frame) -> object:
        while running.hold.is_set():
            time.sleep(PERIOD_S)
        return judge(picture)

    inspector.inspect = inspect  # type: ignore[method-assign, assignment]
