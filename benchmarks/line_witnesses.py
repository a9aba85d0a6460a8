"""Receivers of a line's results, each with a count of its own: MQTT, webhook, OPC UA, Prometheus, the operator's page, files."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.line_devices import Subscriber, first, viewing
from lad_edge.outputs.ledger import Reader, verify
from lad_edge.plc.opcua_client import connect
from lad_edge.plc.opcua_security import APPLICATION_URI
from lad_edge.plc.uri import parse

Entry = tuple[int, str]  # number and verdict of a part
_VERDICTS = ("OK", "NG", "UNKNOWN")
_WAIT_S = 20.0


@dataclass(frozen=True)
class Tally:
    """What a witness has, in the order in which it came."""

    witness: str
    entries: Sequence[Entry]

    def judge(self, parts: int) -> dict[str, Any]:
        """Its counts, and what it lacks, has twice or got out of order, where parts are numbered from 1 on."""
        seqs = [seq for seq, _ in self.entries]
        once = list(dict.fromkeys(seqs))
        verdicts = Counter(verdict for _, verdict in self.entries)
        return {
            "records": len(seqs),
            **{name: verdicts[name] for name in _VERDICTS},
            "lost": len(set(range(1, parts + 1)) - set(once)),
            "duplicated": len(seqs) - len(once),
            "out_of_order": sum(later < earlier for earlier, later in pairwise(once)),
        }


def entries_of(records: Iterable[dict[str, Any]]) -> list[Entry]:
    """Of whole records."""
    return [(record["seq"], record["verdict"]) for record in records]


def in_outbox(path: Path) -> Tally:
    """Of the file, after its chain was checked."""
    verify(path)
    with closing(Reader(path)) as reader:
        return Tally("outbox", entries_of(stored.record for stored in reader.after(0, 1 << 30)))


def in_csv(path: Path) -> Tally:
    """Rows of the table."""
    with path.open(newline="", encoding="utf-8") as file:
        return Tally("CSV", [(int(row["seq"]), row["verdict"]) for row in csv.DictReader(file)])


def in_jsonl(path: Path) -> Tally:
    """Lines of the file."""
    return Tally("JSON lines", entries_of(map(json.loads, path.read_text(encoding="utf-8").splitlines())))


class Mqtt:
    """Subscribes to everything at the broker."""

    def __init__(self, port: int) -> None:
        self.subscriber = Subscriber(port)

    def tally(self) -> Tally:
        """Messages, also those that came twice."""
        return Tally("MQTT", entries_of(self.subscriber.records()))

    def close(self) -> None:
        self.subscriber.stop()


class Webhook(ThreadingHTTPServer):
    """Accepts every POST."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.bodies: list[bytes] = []
        self.port: int = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def tally(self) -> Tally:
        """Requests, also those that came twice."""
        return Tally("webhook", entries_of(map(json.loads, self.bodies)))

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Hook(BaseHTTPRequestHandler):
    server: Webhook
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Nothing."""


class OpcUa:
    """A client that subscribes to the events of the station, on a loop in a thread of its own; it never acknowledges."""

    def __init__(self, port: int) -> None:
        self.entries: list[Entry] = []
        self.counters: dict[str, int] = {}
        self._subscribed, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._look(port)), daemon=True)
        self._thread.start()
        assert self._subscribed.wait(_WAIT_S), "the OPC UA server does not let us subscribe"

    def tally(self) -> Tally:
        """Events."""
        return Tally("OPC UA", self.entries)

    def close(self) -> None:
        """Reads the station's counters and takes leave."""
        self._ended.set()
        self._thread.join(_WAIT_S)

    def event_notification(self, event: Any) -> None:
        """Called by asyncua."""
        self.entries.append((event.Sequence, event.Verdict))

    async def _look(self, port: int) -> None:
        async with await connect(parse(f"opcua://127.0.0.1:{port}")) as client:
            space = await client.get_namespace_index(APPLICATION_URI)
            kind = await client.nodes.base_event_type.get_child(f"{space}:PartResult")
            subscription = await client.create_subscription(50, self)
            await subscription.subscribe_events(client.get_node(f"ns={space};s=Station"), kind)
            self._subscribed.set()
            while not self._ended.is_set():
                await asyncio.sleep(0.1)
            for name in ("OkParts", "NgParts", "UnknownParts"):
                self.counters[name] = await client.get_node(f"ns={space};s=Station.{name}").read_value()


class Prometheus:
    """Scrapes /metrics every few seconds."""

    def __init__(self, port: int, period_s: float = 5.0) -> None:
        self.port, self.period_s = port, period_s
        self.scrapes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def samples(self) -> dict[str, float]:
        """Series → value, now."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_WAIT_S)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.findall(r"^(\w+(?:\{[^}]*\})?) ([-+\d.eE]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def close(self) -> None:
        self._ended.set()
        self._thread.join(_WAIT_S)

    def _work(self) -> None:
        while not self._ended.wait(self.period_s):
            self.scrapes += bool(self.samples())


def page_state(port: int, wanted: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    """The first state of the operator's page that is wanted, as a viewer is sent it."""
    with viewing(port) as take:
        state: Mapping[str, Any] = first(take, "state", wanted).head
        return state
