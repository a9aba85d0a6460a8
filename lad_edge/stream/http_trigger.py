"""Line software asks for a part by HTTP and has its record as the answer: `POST /trigger` with {"part_id": "tray-17"}, or with nothing.

One request is one part. The answer comes with the verdict, so the deadline of the line bounds it.
"""

from __future__ import annotations

import hmac
import json
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from lad_edge.errors import UsageError
from lad_edge.stream.loopback import is_loopback
from lad_edge.stream.part_ids import EXPECTED, MOST_BYTES, part_id_of
from lad_edge.stream.records import to_record
from lad_edge.stream.triggers import OnDemand

if TYPE_CHECKING:
    from lad_edge.stream.parts import Parts

_MOST_CONNECTIONS = 64
_ANSWER_S, _IDLE_S = 10.0, 30.0

_ONLY = "there is POST /trigger, nothing else"

Answer = tuple[HTTPStatus, dict[str, Any]]


class HttpTrigger(OnDemand):
    """A part for each request."""

    def __init__(self, parts: Parts, address: tuple[str, int], token: str | None = None, pictures: int = 1) -> None:
        """address: host and port. token: requests carry it as `Authorization: Bearer …`; None is for this machine alone.

        Raises UsageError for an address that cannot be served, or must not be without a token.
        """
        super().__init__(parts, pictures)
        host, port = address
        if token is None and not is_loopback(host):
            raise UsageError(f"--trigger http://{host}:{port} is open to others: it needs --token-file, or 127.0.0.1")
        try:
            self._server = _Server(address, self, token)
        except OSError as exc:
            raise UsageError(f"--trigger http://{host}:{port}: {exc.strerror}; choose another address") from exc
        self.port: int = self._server.server_address[1]
        self._starting = threading.Lock()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="http-trigger", daemon=True
        )

    def start(self) -> None:
        """Requests are answered from now on; earlier ones have waited."""
        super().start()
        with self._starting:
            if not self.parts.closed:
                self._thread.start()

    def close(self) -> None:
        """No request is taken any more."""
        super().close()
        with self._starting:  # the source may end, in its own thread, before the line starts
            if self._thread.is_alive():
                self._server.shutdown()
                self._thread.join()
            self._server.server_close()

    def ask(self, part_id: str) -> Answer:
        """Triggers a part and waits for what is said of it."""
        part = self.fire(part_id)
        if part is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "the line is stopping"}
        result = self.parts.result_of(part, _ANSWER_S)
        if result is None:
            return HTTPStatus.GATEWAY_TIMEOUT, {"error": f"no verdict within {_ANSWER_S:g} s", "seq": part.seq}
        return HTTPStatus.OK, to_record(result)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an idle connection must not hold the stop of the line up

    def __init__(self, address: tuple[str, int], trigger: HttpTrigger, token: str | None) -> None:
        self.trigger, self.token = trigger, token
        self.free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, _Request)

    def verify_request(self, _request: object, _client: object) -> bool:
        """More connections than that are closed at once."""
        return self.free.acquire(blocking=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started: the next client finds the place free again
            self.free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, _request: object, _client: object) -> None:
        """One line, of which few are told a minute, in the place of a traceback."""
        self.trigger.notice(f"--trigger http: a request has failed: {sys.exc_info()[1]}")


class _Request(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # line software keeps its connection
    timeout = _IDLE_S
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """One part, or what is wrong with the request."""
        self._send(*self._answer())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What the base class refuses: other methods, malformed requests."""
        self.close_connection = True
        self._send(HTTPStatus(code), {"error": f"{message or HTTPStatus(code).phrase}; {_ONLY}"})

    def _send(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        body = json.dumps(answer, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self) -> Answer:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self.close_connection = True
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"at most {MOST_BYTES} bytes, of a known length"}
        body = self.rfile.read(int(length))
        if not self._is_allowed():
            return HTTPStatus.UNAUTHORIZED, {"error": "the token is missing or wrong: Authorization: Bearer TOKEN"}
        if self.path != "/trigger":
            return HTTPStatus.NOT_FOUND, {"error": _ONLY}
        part_id = part_id_of(body)
        if part_id is None:
            return HTTPStatus.BAD_REQUEST, {"error": EXPECTED}
        return self.server.trigger.ask(part_id)

    def _is_allowed(self) -> bool:
        given, token = self.headers.get("Authorization", ""), self.server.token
        return token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode())

    def log_message(self, *_: object) -> None:
        """Records are the log."""
