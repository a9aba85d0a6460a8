"""Webhooks against a real server that fails, redirects, hangs up and refuses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from outbox_samples import fill, quiet
from waiting import until

from lad_edge.errors import UsageError
from lad_edge.outputs.address import parse
from lad_edge.outputs.delivery import Delivery
from lad_edge.outputs.outbox import Outbox
from lad_edge.outputs.webhook import WebhookOutput


class Receiver(ThreadingHTTPServer):
    """Keeps what it accepts; `answer` decides the status of each request: 0 = hang up without a word."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.accepted: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.answer: Callable[[dict[str, object]], int] = lambda record: 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?timeout=2s"

    def seqs(self) -> list[object]:
        return [record["seq"] for record in self.accepted]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        record = json.loads(body)
        status = self.server.answer(record)
        self.server.paths.append(self.path)
        if status == 0:
            self.close_connection = True
            return
        if status == 200:
            self.server.accepted.append(record)
            self.server.headers.append(dict(self.headers.items()))
            self.server.bodies.append(body)
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()


def deliver(outbox: Outbox, address: str) -> Delivery:
    delivery = Delivery(outbox, WebhookOutput(parse(address)), quiet)
    delivery.start()
    return delivery


def test_each_record_is_posted_once_signed_and_with_its_key(receiver: Receiver, outbox: Outbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"whsec_{base64.b64encode(b'deep').decode()}\n")
    (tmp_path / "secret").chmod(0o600)
    delivery = deliver(outbox, f"{receiver.url}&secret-file={tmp_path / 'secret'}")
    fill(outbox, 1, 30)
    until(delivery.drained)
    assert receiver.seqs() == list(range(1, 31))
    headers, body = receiver.headers[0], receiver.bodies[0]
    assert headers["webhook-id"] == "box-1/camera0/boot-a/1"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(b"deep", signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert delivery.stop()


@pytest.mark.parametrize("failure", [0, 500, 503, 429, 404])
def test_a_server_that_fails_gets_the_same_record_again_in_order(
    receiver: Receiver, outbox: Outbox, failure: int
) -> None:
    tries: dict[object, int] = {}

    def fail_once(record: dict[str, object]) -> int:
        tries[record["seq"]] = tries.get(record["seq"], 0) + 1
        return failure if record["seq"] == 4 and tries[record["seq"]] == 1 else 200

    receiver.answer = fail_once
    delivery = deliver(outbox, receiver.url)
    fill(outbox, 1, 10)
    until(delivery.drained)
    assert receiver.seqs() == list(range(1, 11))
    assert tries[4] == 2
    assert delivery.health().state == "open"
    assert delivery.stop()


def test_a_record_that_the_server_will_never_take_is_passed_over_and_counted(
    receiver: Receiver, outbox: Outbox
) -> None:
    receiver.answer = lambda record: 422 if record["seq"] in (2, 5) else 200
    heard: list[str] = []
    delivery = Delivery(outbox, WebhookOutput(parse(receiver.url)), heard.append)
    delivery.start()
    fill(outbox, 1, 6)
    until(delivery.drained)
    assert receiver.seqs() == [1, 3, 4, 6]
    assert (delivery.health().delivered, delivery.health().refused) == (4, 2)
    assert "refused record box-1/camera0/boot-a/2: HTTP 422" in heard[0]
    assert delivery.stop()


@pytest.mark.parametrize(("status", "advice"), [(307, "redirects are not followed"), (401, "check secret-file")])
def test_what_a_person_has_to_mend_is_told_and_nothing_goes_elsewhere(
    receiver: Receiver, outbox: Outbox, status: int, advice: str
) -> None:
    receiver.answer = lambda record: status
    delivery = deliver(outbox, receiver.url)
    fill(outbox, 1, 1)
    until(lambda: delivery.health().failures)
    assert advice in delivery.health().detail
    assert set(receiver.paths) == {"/hook"}
    assert delivery.stop()


def test_a_dead_server_opens_the_circuit_and_holds_up_no_other_output(receiver: Receiver, outbox: Outbox) -> None:
    dead = deliver(outbox, "http://127.0.0.1:1/hook")
    alive = deliver(outbox, receiver.url)
    fill(outbox, 1, 20)
    until(alive.drained)
    until(lambda: dead.health().state == "broken")
    assert dead.health().backlog == 20
    assert dead.stop()
    assert alive.stop()


def test_a_server_that_answers_for_ever_is_left(outbox: Outbox) -> None:
    """A body without an end: only its beginning is read, and the connection is not used again."""

    class Endless(_Handler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(4096))
            except OSError:
                self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        delivery = deliver(outbox, f"http://127.0.0.1:{server.server_address[1]}/hook?timeout=2s")
        fill(outbox, 1, 3)
        until(delivery.drained)
        assert delivery.health().delivered == 3
        assert delivery.stop()
        server.shutdown()
        thread.join()


def test_a_password_in_the_address_is_refused() -> None:
    with pytest.raises(UsageError, match="secret-file"):
        WebhookOutput(parse("https://bob:secret@host/hook"))
