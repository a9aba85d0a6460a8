"""The page over TLS: what it serves is the same, and nobody on the way reads the token."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest
import trustme
from page_samples import ABOUT, TOKEN, WAIT_S, label, part, request
from waiting import until

from lad_edge.dashboard.feed import CameraFeed, Dashboard
from lad_edge.dashboard.messages import receive
from lad_edge.dashboard.process import Settings
from lad_edge.errors import UsageError

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def pem(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of this machine in one file."""
    path = tmp_path_factory.mktemp("tls") / "page.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture
def page(pem: Path, tmp_path: Path) -> Iterator[tuple[Dashboard, CameraFeed]]:
    settings = Settings("127.0.0.1", 0, TOKEN, str(tmp_path / "labels"), certificate=str(pem))
    dashboard, feed = Dashboard(settings, lambda _text: None), CameraFeed("tray", ABOUT)
    dashboard.add(feed)
    yield dashboard, feed
    dashboard.close()


@pytest.fixture
def client(page: tuple[Dashboard, CameraFeed], authority: trustme.CA) -> HTTPSConnection:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return HTTPSConnection("127.0.0.1", page[0].port, timeout=WAIT_S, context=context)


def test_files_parts_and_labels_go_over_tls(page: tuple[Dashboard, CameraFeed], client: HTTPSConnection) -> None:
    client.request("GET", "/")
    answer = client.getresponse()
    assert (answer.status, b"lad-edge" in answer.read()) == (200, True)
    page[1].write(*part(1))
    client.request("GET", "/feed", headers=BEARER)
    feed = client.getresponse()
    kinds = {receive(feed.read).head["kind"] for _ in range(3)}
    assert kinds == {"page", "state", "part"}
    client.close()
    origin = {"Origin": f"https://127.0.0.1:{page[0].port}", "Content-Type": "application/json"}
    client.request("POST", "/label", label("missed", 1), {**BEARER, **origin})
    answer = client.getresponse()
    assert answer.status == 200, answer.read()
    assert json.loads(answer.read()) == {"label": "missed", "seq": 1}


def test_a_client_without_tls_gets_nothing(page: tuple[Dashboard, CameraFeed]) -> None:
    with pytest.raises(OSError, match=r"closed|reset"):
        request(page[0].port, "GET", "/", headers=BEARER)


def test_a_page_that_is_killed_comes_back_with_its_certificate(
    page: tuple[Dashboard, CameraFeed], client: HTTPSConnection
) -> None:
    before = page[0].pid
    assert page[0]._process is not None
    page[0]._process._process.kill()
    until(lambda: page[0].pid not in (None, before))
    client.request("GET", "/")
    assert client.getresponse().status == 200


def test_for_other_machines_the_token_is_encrypted_or_said_to_be_plain(pem: Path) -> None:
    with pytest.raises(UsageError, match="--dashboard-plain"):
        Dashboard(Settings("0.0.0.0", 0, TOKEN), print)
    with pytest.raises(UsageError, match="--dashboard-token-file"):
        Dashboard(Settings("0.0.0.0", 0, None, certificate=str(pem)), print)
    for settings in (Settings("0.0.0.0", 0, TOKEN, plain=True), Settings("0.0.0.0", 0, TOKEN, certificate=str(pem))):
        Dashboard(settings, print).close()


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="give PEM files"):
        Dashboard(Settings("127.0.0.1", 0, certificate=str(tmp_path / "page.pem")), print)
    with pytest.raises(UsageError, match="nothing"):
        Dashboard(Settings("127.0.0.1", 0, certificate=str(tmp_path / "nothing")), print)
