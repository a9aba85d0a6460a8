"""Results and the state of the outputs go in; `/metrics` for Prometheus and `/health` for a supervisor come out, over HTTP."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from lad_edge.errors import SinkError
from lad_edge.outputs.exposition import CONTENT_TYPE, Exposition
from lad_edge.stream.stats import Stats
from lad_edge.values import Frame, Reason, Result

if TYPE_CHECKING:
    from lad_edge.outputs.opening import Outputs

_SLOWEST_CLIENT_S = 5.0
_CLIENTS = 8
_CLOSE_S = 1.0

# What the last part's record says of the station itself: while one of them stands there, no part can be judged.
_STATION = frozenset(
    {
        *(Reason.CAMERA_LOST, Reason.CAMERA_BUSY, Reason.WRONG_CAMERA, Reason.WRONG_PRODUCT),
        *(
            Reason.ENGINE_NOT_VERIFIED,
            Reason.SELF_TEST_FAILED,
            Reason.GPU_FAULT,
            Reason.GPU_MEMORY,
            Reason.ENGINE_CRASH,
        ),
        *(Reason.STARTING, Reason.STOPPING, Reason.INTERNAL),
    }
)

_FIGURES = (  # name, meaning, field of the state of an output; names of counters end in _total
    ("waiting", "Records handed over that are not yet on the disk.", "waiting"),
    ("stored_total", "Records on the disk.", "stored"),
    ("lost_total", "Records that were lost.", "lost"),
    ("commits_total", "Transactions.", "commits"),
    ("commit_seconds_total", "Seconds that the transactions took together.", "commit_s"),
    ("backlog", "Records that are not acknowledged.", "backlog"),
    ("oldest_seconds", "Age of the oldest of them.", "oldest_s"),
    ("delivered_total", "Records that were acknowledged.", "delivered"),
    ("refused_total", "Records that the receiver will never take.", "refused"),
    ("expired_total", "Records that the quota took before they were delivered.", "expired"),
    ("failures_total", "Tries that failed.", "failures"),
    ("pictures_saved_total", "Pictures that were saved.", "saved"),
    ("pictures_skipped_total", "Pictures that came while the disk was busy.", "skipped"),
    ("pictures_failed_total", "Pictures that the disk did not take.", "failed"),
    ("pictures_deleted_total", "Pictures that the quota took.", "deleted"),
    ("pictures_bytes", "Size of the pictures that are kept.", "used_bytes"),
)


class MetricsServer:
    """A sink on the line (stream/sinks.py), and a web server on a thread of its own. It takes no word from outside but two paths."""

    def __init__(self, host: str, port: int, outputs: Outputs) -> None:
        """Port 0: any free one; `port` tells which. Raises SinkError."""
        self.stats, self.outputs = Stats(), outputs
        self._station: tuple[str, ...] = ()
        try:
            self._server = _Server((host, port), self)
        except OSError as exc:
            raise SinkError(f"--metrics {host}:{port}: {exc.strerror or exc}; choose another address or port") from exc
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def write(self, _frame: Frame, result: Result) -> None:
        """Counts the result."""
        self.stats.add(result)
        self._station = tuple(reason.value for reason in result.reasons if reason in _STATION)

    def close(self) -> None:
        """Serves no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_CLOSE_S)

    def metrics(self) -> str:
        """The text for Prometheus."""
        shown = Exposition()
        shown.info("info", "Which line this is.", self.outputs.identity())
        verdicts = {verdict.value: count for verdict, count in dict(self.stats.verdicts).items()}
        shown.counter("parts_total", "Records by verdict.", verdicts, "verdict")
        shown.counter("reasons_total", "Records by reason.", dict(self.stats.reasons), "reason")
        shown.histograms("stage_seconds", "Durations of scored parts by stage.", dict(self.stats.stages), "stage")
        shown.gauge("degraded", "1 for each code that is set.", dict.fromkeys(self.codes(), 1), "code")
        states = self.outputs.states()
        for name, what, field in _FIGURES:
            samples = {state.name: getattr(state, field) for state in states if hasattr(state, field)}
            family = shown.counter if name.endswith("_total") else shown.gauge
            family(f"output_{name}", what, samples, "output")
        return shown.text()

    def codes(self) -> tuple[str, ...]:
        """What is not as it should be: of the station, then of the outputs."""
        return tuple(dict.fromkeys((*self._station, *self.outputs.codes())))

    def health(self) -> dict[str, Any]:
        """live: it answers; ready: parts can be judged; degraded: something is not as it should be, and `codes` says what."""
        codes = self.codes()
        return {
            "live": True,
            "ready": not self._station,
            "degraded": bool(codes),
            "codes": list(codes),
            "parts": self.stats.parts,
            "outputs": [asdict(state) for state in self.outputs.states()],
        }


class _Server(ThreadingHTTPServer):
    """At most a few clients at a time, so that slow ones cannot pile up."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], metrics: MetricsServer) -> None:
        self.metrics = metrics
        self._places = threading.BoundedSemaphore(_CLIENTS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A client that hangs up is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SLOWEST_CLIENT_S
    server_version, sys_version = "lad-edge", ""

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, CONTENT_TYPE, self.server.metrics.metrics())
        elif self.path == "/health":
            health = self.server.metrics.health()
            shown = health if self._is_local() else {"ready": health["ready"]}
            self._answer(200 if health["ready"] else 503, "application/json", json.dumps(shown) + "\n")
        else:
            self._answer(404, "text/plain", "there are /metrics and /health\n")

    def log_message(self, *_words: object) -> None:
        """Nothing: a scrape every second is no event."""

    def _is_local(self) -> bool:
        return ip_address(self.client_address[0]).is_loopback

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
