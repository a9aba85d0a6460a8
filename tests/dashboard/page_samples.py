"""Parts for the page, and clients that talk to it over real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any

import numpy as np
from scripted import frame
from tiny import good_picture, spotted_picture

from lad_edge.dashboard.feed import CameraFeed, Dashboard
from lad_edge.dashboard.messages import Message, receive
from lad_edge.dashboard.process import Settings
from lad_edge.values import Frame, Reason, Region, Result, Verdict

TOKEN = "a-token-of-thirty-two-characters"
WAIT_S = 15.0
ABOUT = {"engine": "tiny", "source": "scripted", "deadline_ms": 50.0}
REASONS = {
    Verdict.OK: (Reason.SCORE_WITHIN_LIMIT,),
    Verdict.NG: (Reason.STRUCTURAL_ABOVE_LIMIT,),
    Verdict.UNKNOWN: (Reason.FRAME_DARK,),
}


def part(seq: int, verdict: Verdict = Verdict.OK, **changes: object) -> tuple[Frame, Result]:
    """A picture with the result of it that a line would write."""
    picture = spotted_picture(seq) if verdict is Verdict.NG else good_picture(seq)
    anomaly_map = np.zeros((8, 8), np.float32)
    if verdict is Verdict.NG:
        anomaly_map[3:5, 3:6] = 0.9
    result = Result(
        seq=seq,
        frame_id=f"frame-{seq}",
        verdict=verdict,
        reasons=REASONS[verdict],
        captured_ns=time.monotonic_ns() - 12_000_000,
        utc_ns=time.time_ns(),
        score=0.9 if verdict is Verdict.NG else 0.2,
        threshold=0.5,
        p_value=0.01 if verdict is Verdict.NG else 0.6,
        anomaly_map=anomaly_map,
        regions=(Region(24, 16, 16, 16, 256, 0.9, 30, 24),) if verdict is Verdict.NG else (),
    )
    return frame(picture, f"frame-{seq}"), replace(result, **changes)  # type: ignore[arg-type]


@contextmanager
def served(
    token: str | None = None, labels: str = "", cameras: tuple[str, ...] = ("tray",)
) -> Iterator[tuple[Dashboard, list[CameraFeed]]]:
    """The page in its own process, and the sinks that feed it."""
    said: list[str] = []
    dashboard = Dashboard(Settings("127.0.0.1", 0, token, labels), said.append)
    feeds = [CameraFeed(name, ABOUT) for name in cameras]
    try:
        for feed in feeds:
            dashboard.add(feed)
        yield dashboard, feeds
    finally:
        dashboard.close()


def request(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.request(method, path, body, dict(headers or {}))
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    text = b"" if path == "/feed" and answer.status == 200 else answer.read()
    connection.close()
    return answer.status, found, text


@contextmanager
def viewing(port: int, headers: Mapping[str, str] | None = None) -> Iterator[Callable[[], Message]]:
    """A viewer: gives the next message of the stream."""
    connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.request("GET", "/feed", headers=dict(headers or {}))
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = answer.read(count - len(data))
            assert more, "the stream has ended"
            data += more
        return data

    try:
        yield lambda: receive(exactly)
    finally:
        connection.close()


def first(
    take: Callable[[], Message], kind: str, wanted: Callable[[Mapping[str, Any]], object] = lambda _head: True
) -> Message:
    """The first message of that kind for which `wanted` holds."""
    while True:
        message = take()
        if message.head["kind"] == kind and wanted(message.head):
            return message


def slow_client(port: int, path: str = "/feed") -> socket.socket:
    """Asks, and then reads hardly anything: its receive buffer is as small as the system allows."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    client.settimeout(WAIT_S)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return client


def label(label: str, seq: int, camera: str = "tray") -> bytes:
    return json.dumps({"label": label, "camera": camera, "seq": seq}).encode()
