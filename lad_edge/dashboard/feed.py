"""Sinks on the lines go in front; what the operator's page shows goes out to its process, prepared on a thread of its own.

`CameraFeed.write` stores two references and returns: no lock that the thread holds for long, nothing encoded, nothing sent. The thread
comes by ten times a second, takes what is newest, and leaves the rest out.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import cv2

from lad_edge.dashboard.messages import Message, pack
from lad_edge.dashboard.pictures import Encoded
from lad_edge.dashboard.process import PageProcess
from lad_edge.dashboard.tally import SHIFT_HOURS, Entry, Tally, entry_of
from lad_edge.errors import UsageError
from lad_edge.stream.records import to_record
from lad_edge.values import Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lad_edge.dashboard.process import Settings
    from lad_edge.stream.health import Health
    from lad_edge.stream.loop import Line
    from lad_edge.stream.overlays import Box
    from lad_edge.values import Frame, Result

REJECTS = 24  # parts with their pictures that a page that is started again is sent again
_PERIOD_S = 0.1  # between pictures while somebody looks
_UNWATCHED_S = 1.0
_TALLY_S = 0.5
_NICER = 5
_ENTRIES = 8192  # results between two visits of the thread; what is beyond is counted as missed
_RESTART_S = (1.0, 30.0)  # the first pause, and the longest one
_CLOSE_S = 2.0


class CameraFeed:
    """The sink of one line (stream/sinks.py)."""

    def __init__(
        self,
        name: str,
        about: Mapping[str, Any],
        roi: Box | None = None,
        span: float | None = None,
        shift_hours: Sequence[int] = SHIFT_HOURS,
    ) -> None:
        """about: `engine`, `source`, `deadline_ms`, for a person. roi, span: see `Encoded`."""
        self.name, self.about, self.roi, self.span = name, dict(about), roi, span
        self.health: Health | None = None
        self.tally = Tally(shift_hours)
        self.written = 0
        self.rejects: deque[Message] = deque(maxlen=REJECTS)
        self._newest: tuple[Frame, Result] | None = None
        self._rejected: deque[tuple[Frame, Result]] = deque(maxlen=4)
        self._entries: deque[Entry] = deque(maxlen=_ENTRIES)
        self._part_s = self._beat_s = time.monotonic()
        self._counted = self._seen_seq = self._late = 0
        self._pictured_s = self._tallied_s = 0.0
        self._line: Line | None = None
        self._ended = False

    def write(self, frame: Frame, result: Result) -> None:
        """Takes one result; about a microsecond of the line's time."""
        self._newest = (frame, result)
        if result.verdict is Verdict.NG:
            self._rejected.append((frame, result))
        self._entries.append(entry_of(result))
        self.written += 1
        self._part_s = time.monotonic()

    def write_late(self, _result: Result) -> None:
        """Counts what came after its deadline; the part stays as it was shown."""
        self._late += 1

    def close(self) -> None:
        """The line has ended; the page says so until its process ends too."""
        self._ended = True

    def follow(self, line: Line) -> None:
        """Sees from now on whether the line moves."""
        beat = line.beat

        def beat_seen() -> None:
            self._beat_s = time.monotonic()
            beat()

        line.beat, self._line = beat_seen, line

    def messages(self, *, watched: bool) -> Iterator[Message]:
        """What there is to say now. Raises cv2.error, ValueError for a result that cannot be shown."""
        self._count()
        now_s = time.monotonic()
        while self._rejected:
            message = self._part("reject", *self._rejected.popleft())
            self.rejects.append(message)
            yield message
        newest = self._newest
        pause_s = _PERIOD_S if watched else _UNWATCHED_S
        if newest is not None and newest[1].seq != self._seen_seq and now_s - self._pictured_s >= 0.9 * pause_s:
            self._seen_seq, self._pictured_s = newest[1].seq, now_s
            yield self._part("part", *newest)
        if now_s - self._tallied_s >= _TALLY_S:
            self._tallied_s = now_s
            yield pack(self._state())

    def again(self) -> None:
        """Another process listens: it knows nothing yet."""
        self._seen_seq, self._pictured_s, self._tallied_s = 0, 0.0, 0.0

    def _count(self) -> None:
        while self._entries:
            self.tally.add(self._entries.popleft())
            self._counted += 1
        if self._late:
            self.tally.reasons[Reason.LATE_RESULT.value] = self._late

    def _part(self, kind: str, frame: Frame, result: Result) -> Message:
        encoded = Encoded(frame, result, self.roi, self.span)
        if kind == "part" and encoded.mean_grey is not None and encoded.sharpness is not None:
            self.tally.see(result.seq, encoded.mean_grey, encoded.sharpness)
        head = {"kind": kind, "camera": self.name, "record": to_record(result), **encoded.head()}
        return pack(head, encoded.picture, encoded.heat)

    def _state(self) -> dict[str, Any]:
        now_s = time.monotonic()
        return {
            "kind": "state",
            "camera": self.name,
            "sent_ms": time.time_ns() // 1_000_000,
            "about": {**self.about, "span": self.span},
            "parts": self.written,
            "missed": max(0, self.written - self._counted - len(self._entries)),
            "part_age_s": round(now_s - self._part_s, 2) if self.written else None,
            "beat_age_s": round(now_s - self._beat_s, 2) if self._line is not None else 0.0,
            "lost": self._line is not None and self._line.trigger.lost,
            "ended": self._ended,
            **_health(self.health),
            **self.tally.as_dict(),
        }


def _health(health: Health | None) -> dict[str, Any]:
    """`status`, and what is not as it should be; outputs with their backlogs. Without a Health nothing is known to be wrong."""
    if health is None:
        return {"status": "ready", "troubles": [], "outputs": []}
    return {
        "status": health.status,
        "troubles": [asdict(trouble) for trouble in health.troubles],
        "outputs": [_output(state) for state in health.states()],
    }


def _output(state: Any) -> dict[str, Any]:
    fields = asdict(state)
    shown = {name: fields[name] for name in ("name", "codes", "detail")}
    return {**shown, "backlog": fields.get("backlog", fields.get("waiting", 0)), "state": fields.get("state", "")}


class Dashboard:
    """The page of all lines of this process: feeds its process, and starts it again when it has gone."""

    def __init__(self, settings: Settings, notice: Callable[[str], None]) -> None:
        """Raises UsageError when the address cannot be served, OSError when its process does not come up."""
        self.notice = notice
        self._process: PageProcess | None = PageProcess(settings)
        self.port = self._process.port
        self._settings = replace(settings, port=self.port)
        self.starts, self._pause_s, self._retry_s = 1, _RESTART_S[0], 0.0
        self._cameras: list[CameraFeed] = []
        self._refused = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="dashboard", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the page's process, for people and tests; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def add(self, camera: CameraFeed) -> None:
        """Shows this camera too."""
        self._cameras.append(camera)

    def close(self) -> None:
        """The page goes away."""
        self._ended.set()
        self._thread.join(_CLOSE_S)
        if self._process is not None:
            self._process.kill()

    def _work(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + _NICER)
        while not self._ended.wait(_PERIOD_S):
            if self._process is None and not self._start_again():
                continue
            try:
                self._feed()
            except (OSError, ValueError) as exc:
                self._gone(str(exc))

    def _feed(self) -> None:
        process = self._process
        if process is None:
            return
        process.listen()
        for camera in list(self._cameras):
            self._feed_camera(process, camera)
        self._pause_s = _RESTART_S[0]

    def _feed_camera(self, process: PageProcess, camera: CameraFeed) -> None:
        try:
            for message in camera.messages(watched=process.viewers > 0):
                process.send(message)
        except (cv2.error, ValueError) as exc:
            self._say_once(f"{camera.name}: a part cannot be shown on the page: {exc}; verdicts are not affected")

    def _gone(self, why: str) -> None:
        if self._process is not None:
            self._process.kill()
        self._process = None
        self._retry_s = time.monotonic() + self._pause_s
        self.notice(f"the operator's page has gone ({why}); it is started again in {self._pause_s:g} s")
        self._pause_s = min(2 * self._pause_s, _RESTART_S[1])

    def _start_again(self) -> bool:
        if time.monotonic() < self._retry_s:
            return False
        try:
            self._process = PageProcess(self._settings)
            self.starts += 1
            for camera in self._cameras:
                camera.again()
                for message in camera.rejects:
                    self._process.send(message)
        except (OSError, UsageError, ValueError) as exc:
            self._gone(str(exc))
        return self._process is not None

    def _say_once(self, text: str) -> None:
        if not self._refused:
            self._refused = True
            self.notice(text)
