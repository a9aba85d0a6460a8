"""Receivers of a line's results, each with a count of its own: MQTT, webhook, OPC UA, Prometheus, the operator's page, files.

Those that listen run in a process of their own, at a low priority: in a factory they are other machines.
"""

from __future__ import annotations

import asyncio
import csv
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
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
_WAIT_S, _SCRAPED_S = 20.0, 5.0
_ROOT = Path(__file__).parents[1]


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


def reasons_of_unknown(path: Path) -> dict[str, int]:
    """How many parts of an outbox were UNKNOWN for which reasons."""
    with closing(Reader(path)) as reader:
        records = (stored.record for stored in reader.after(0, 1 << 30))
        return dict(Counter(" ".join(record["reasons"]) for record in records if record["verdict"] == "UNKNOWN"))


def in_csv(path: Path) -> Tally:
    """Rows of the table."""
    with path.open(newline="", encoding="utf-8") as file:
        return Tally("CSV", [(int(row["seq"]), row["verdict"]) for row in csv.DictReader(file)])


def in_jsonl(path: Path) -> Tally:
    """Lines of the file."""
    return Tally("JSON lines", entries_of(map(json.loads, path.read_text(encoding="utf-8").splitlines())))


class Receivers:
    """The process of MQTT, webhook, OPC UA and Prometheus, from the side of the benchmark. `hook`: the webhook's port."""

    def __init__(self, mqtt: int) -> None:
        """mqtt: the broker's port."""
        program = f"from benchmarks.line_witnesses import listen; listen({mqtt})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
        )
        self.hook: int = self._answer()

    def look(self, opcua: int, metrics: int) -> None:
        """From now on the OPC UA client subscribes at that port, and Prometheus scrapes."""
        self._ask("look", opcua, metrics)

    def arrived(self) -> int:
        """Records that every one of them has, at least."""
        return int(self._ask("arrived"))

    def tell(self) -> tuple[list[Tally], dict[str, float]]:
        """What each has, and the last samples of Prometheus."""
        told = self._ask("tell")
        return [Tally(witness, entries) for witness, entries in told["entries"].items()], told["samples"]

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()

    def _ask(self, *words: object) -> Any:
        assert self.process.stdin is not None
        print(json.dumps(words), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


def listen(mqtt: int) -> None:
    """The receivers' process: a word a line comes in, an answer goes out."""
    os.nice(10)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # that the line ends is no news
    hook, subscriber = Webhook(), Subscriber(mqtt)
    print(hook.port, flush=True)
    for line in sys.stdin:
        word, *ports = json.loads(line)
        answer: object = None
        if word == "look":
            opcua, prometheus = OpcUa(ports[0]), Prometheus(ports[1])
        elif word == "arrived":
            heard = sum(topic.endswith("/result") for topic, _, _ in list(subscriber.messages))
            answer = min(len(hook.bodies), heard, len(opcua.entries))
        else:
            entries = {
                "webhook": entries_of(map(json.loads, hook.bodies)),
                "MQTT": entries_of(subscriber.records()),
                "OPC UA": opcua.entries,
            }
            answer = {"entries": entries, "samples": prometheus.samples()}
        print(json.dumps(answer), flush=True)


class Webhook(ThreadingHTTPServer):
    """Accepts every POST."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.bodies: list[bytes] = []
        self.port: int = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


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
        self._subscribed = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._look(port)), daemon=True).start()
        assert self._subscribed.wait(_WAIT_S), "the OPC UA server does not let us subscribe"

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
            await asyncio.Event().wait()


class Prometheus:
    """Scrapes /metrics every few seconds."""

    def __init__(self, port: int) -> None:
        self.port = port
        threading.Thread(target=self._work, daemon=True).start()

    def samples(self) -> dict[str, float]:
        """Series → value, now."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_WAIT_S)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.findall(r"^(\w+(?:\{[^}]*\})?) ([-+\d.eE]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def _work(self) -> None:
        with suppress(OSError):  # the line has ended
            while True:
                time.sleep(_SCRAPED_S)
                self.samples()


def page_state(port: int, wanted: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    """The first state of the operator's page that is wanted, as a viewer is sent it."""
    with viewing(port) as take:
        state: Mapping[str, Any] = first(take, "state", wanted).head
        return state
