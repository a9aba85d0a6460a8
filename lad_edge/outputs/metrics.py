"""How the lines of this process are doing goes in; `/metrics` for Prometheus and `/health` for a supervisor come out, over HTTP."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from lad_edge.errors import SinkError
from lad_edge.outputs.exposition import CONTENT_TYPE, Exposition
from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lad_edge.outputs.exposition import Labels
    from lad_edge.stream.health import Health
    from lad_edge.stream.stats import Histogram, Stats

Sample = TypeVar("Sample")

_SLOWEST_CLIENT_S = 5.0
_CLIENTS = 8
_CLOSE_S = 1.0
_WORST_FIRST = ("live", "degraded", "ready")
_STARTING: dict[str, Any] = {
    "status": "live",
    "codes": [Reason.STARTING.value],
    "troubles": [],
    "parts": 0,
    "outputs": [],
}

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


@dataclass(frozen=True)
class WatchedLine:
    """What is shown of one line. identity: labels that say which line and engine it is; source: what its camera counts."""

    health: Health
    stats: Stats
    identity: Callable[[], Mapping[str, str]]
    source: Callable[[], Mapping[str, int]] = dict


class MetricsServer:
    """Of all lines of this process: a web server on a thread of its own. It takes no word from outside but two paths."""

    def __init__(self, host: str, port: int, cameras: Iterable[str]) -> None:
        """Port 0: any free one; `port` tells which. cameras: those that will be there. Raises SinkError."""
        self.lines: dict[str, WatchedLine | None] = dict.fromkeys(cameras)
        try:
            self._server = _Server((host, port), self)
        except OSError as exc:
            raise SinkError(f"--metrics {host}:{port}: {exc.strerror or exc}; choose another address or port") from exc
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def watch(self, camera: str, line: WatchedLine) -> None:
        """Shows this line too."""
        self.lines[camera] = line

    def close(self) -> None:
        """Serves no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_CLOSE_S)

    def metrics(self) -> str:
        """The text for Prometheus."""
        shown, lines = Exposition(), self._open()
        shown.info("info", "Which line this is.", [{"camera": name, **line.identity()} for name, line in lines.items()])
        shown.counter("parts_total", "Records by verdict.", ("camera", "verdict"), _each(lines, _verdicts))
        shown.counter(
            "late_total",
            "Results after their deadline, by the verdict that nobody was shown.",
            ("camera", "verdict"),
            _each(lines, _late),
        )
        shown.counter("reasons_total", "Records by reason.", ("camera", "reason"), _each(lines, _reasons))
        shown.counter(
            "source_total",
            "Frames, losses and returns as the driver of the camera counts them.",
            ("camera", "kind"),
            _each(lines, _source),
        )
        shown.histograms(
            "stage_seconds", "Durations of scored parts by stage.", ("camera", "stage"), _each(lines, _stages)
        )
        shown.gauge("ready", "1 while parts can be judged.", ("camera",), _each(lines, _ready))
        shown.gauge("degraded", "1 for each code that is set.", ("camera", "code", "where"), _each(lines, _troubles))
        for name, what, field in _FIGURES:
            family = shown.counter if name.endswith("_total") else shown.gauge
            family(f"output_{name}", what, ("camera", "output"), _each(lines, partial(_of_outputs, field=field)))
        return shown.text()

    def health(self) -> dict[str, Any]:
        """status: live (it answers), ready (parts can be judged), degraded (and something is not as it should be); of the worst camera."""
        cameras = {name: _STARTING if line is None else _health(line) for name, line in self.lines.items()}
        status = min((camera["status"] for camera in cameras.values()), key=_WORST_FIRST.index, default="live")
        codes = dict.fromkeys(code for camera in cameras.values() for code in camera["codes"])
        return {
            "status": status,
            "live": True,
            "ready": status != "live",
            "degraded": bool(codes),
            "codes": list(codes),
            "cameras": cameras,
        }

    def _open(self) -> dict[str, WatchedLine]:
        return {name: line for name, line in self.lines.items() if line is not None}


def _health(line: WatchedLine) -> dict[str, Any]:
    health = line.health
    return {
        "status": health.status,
        "codes": list(health.codes),
        "troubles": [asdict(trouble) for trouble in health.troubles],
        "parts": line.stats.parts,
        "outputs": [asdict(state) for state in health.states()],
    }


def _each(
    lines: Mapping[str, WatchedLine], samples: Callable[[WatchedLine], Mapping[Labels, Sample]]
) -> dict[Labels, Sample]:
    """Samples of every line, the camera before their own labels."""
    return {(name, *labels): value for name, line in lines.items() for labels, value in samples(line).items()}


def _verdicts(line: WatchedLine) -> dict[Labels, float]:
    return {(verdict.value,): count for verdict, count in line.stats.verdicts.copy().items()}


def _late(line: WatchedLine) -> dict[Labels, float]:
    return {(verdict.value,): count for verdict, count in line.stats.late.copy().items()}


def _reasons(line: WatchedLine) -> dict[Labels, float]:
    return {(reason,): count for reason, count in line.stats.reasons.copy().items()}


def _source(line: WatchedLine) -> dict[Labels, float]:
    return {(kind,): count for kind, count in line.source().items()}


def _stages(line: WatchedLine) -> dict[Labels, Histogram]:
    return {(stage,): histogram for stage, histogram in line.stats.stages.copy().items()}


def _ready(line: WatchedLine) -> dict[Labels, float]:
    return {(): int(line.health.ready)}


def _troubles(line: WatchedLine) -> dict[Labels, float]:
    return {(trouble.code.value, trouble.where): 1 for trouble in line.health.troubles}


def _of_outputs(line: WatchedLine, field: str) -> dict[Labels, float]:
    return {(state.name,): getattr(state, field) for state in line.health.states() if hasattr(state, field)}


class _Server(ThreadingHTTPServer):
    """At most a few clients at a time, so that slow ones cannot pile up."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], metrics: MetricsServer) -> None:
        self.metrics = metrics
        self._places = threading.BoundedSemaphore(_CLIENTS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started: the next client finds the place free again
            self._places.release()
            raise

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
