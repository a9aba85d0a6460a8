"""The page's process over real sockets: who may see, who may press, and what slow, large and nonsensical clients get."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from page_samples import TOKEN, WAIT_S, first, label, part, request, served, slow_client, viewing
from waiting import until

from lad_edge.dashboard import server as serving
from lad_edge.dashboard.access import Access
from lad_edge.dashboard.feed import CameraFeed, Dashboard
from lad_edge.dashboard.labels import FILE_NAME
from lad_edge.dashboard.messages import pack
from lad_edge.dashboard.server import CONNECTIONS, Server
from lad_edge.errors import UsageError
from lad_edge.values import Reason, Verdict

BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}
NASTY = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\u202e\x00'


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[Dashboard, CameraFeed]]:
    """Open to this machine, with a folder for labels."""
    with served(labels=str(tmp_path / "labels")) as (dashboard, (feed,)):
        yield dashboard, feed


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dashboard, CameraFeed]]:
    """Open to this machine, for tests that leave nothing behind; part 1 was shown."""
    with served(labels=str(tmp_path_factory.mktemp("labels"))) as (dashboard, (feed,)):
        feed.write(*part(1))
        yield dashboard, feed


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Behind a token."""
    with served(TOKEN, str(tmp_path_factory.mktemp("labels"))) as (dashboard, _):
        yield dashboard


def raw(port: int, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as client:
        client.sendall(text)
        answer = b""
        while more := client.recv(1 << 16):
            answer += more
        return answer


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Cookie": f"token={TOKEN}"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/feed"), ("POST", "/label")])
def test_without_the_token_nothing_of_the_line_is_seen_or_changed(
    locked: Dashboard, given: dict[str, str], method: str, path: str
) -> None:
    status, _, body = request(locked.port, method, path, label("missed", 1) if method == "POST" else None, JSON | given)
    assert status == 401
    assert TOKEN.encode() not in body


def test_with_the_token_it_is(locked: Dashboard) -> None:
    assert request(locked.port, "GET", "/feed", headers=BEARER)[0] == 200
    status, _, body = request(locked.port, "POST", "/label", label("missed", 1), BEARER | JSON)
    assert (status, json.loads(body)["error"]) == (404, "this part was shown too long ago")


def test_the_page_itself_and_one_bit_of_health_are_for_everybody(locked: Dashboard) -> None:
    assert request(locked.port, "GET", "/")[0] == 200
    status, _, body = request(locked.port, "GET", "/health")
    assert status in (200, 503)
    assert list(json.loads(body)) == ["ready"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "line3.factory"])
def test_an_address_for_others_needs_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="token"):
        Access(host, None, private=True)
    with pytest.raises(UsageError, match="--dashboard-cert"):
        Access(host, TOKEN, private=False)
    Access(host, TOKEN, private=True)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_that_points_here_sees_nothing(shared: tuple[Dashboard, CameraFeed], host: str) -> None:
    assert request(shared[0].port, "GET", "/feed", headers={"Host": host})[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        JSON | {"Origin": "https://evil.example"},
        JSON | {"Origin": "null"},
        JSON | {"Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
def test_another_page_cannot_press_a_button(shared: tuple[Dashboard, CameraFeed], headers: dict[str, str]) -> None:
    dashboard, _ = shared
    assert request(dashboard.port, "POST", "/label", label("missed", 1), headers)[0] == 401


def test_every_answer_forbids_what_the_page_does_not_need(shared: tuple[Dashboard, CameraFeed]) -> None:
    for path in ("/", "/page.js", "/health", "/nothing"):
        headers = request(shared[0].port, "GET", path)[1]
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in headers


def test_the_page_loads_nothing_from_elsewhere_and_holds_no_inline_code() -> None:
    assets = serving._assets()
    assert {"index.html", "page.js", "page.css"} <= set(assets)
    for name, (_, data) in assets.items():
        text = data.decode()
        assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), name
        assert "innerHTML" not in text, name
        assert not [word for word in ("onclick=", "style=", "<script>") if word in text], name


def test_every_reason_has_words() -> None:
    words = json.loads(serving._assets()["reasons.json"][1])
    assert set(words) == {reason.value for reason in Reason}


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/static/page.js", "/feed?url=x", "//etc/passwd", "/%2e%2e/x", "/index.html"]
)
def test_no_other_path_leads_anywhere(shared: tuple[Dashboard, CameraFeed], path: str) -> None:
    assert request(shared[0].port, "GET", path)[0] == 404


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000, b"431"),
        (b"POST /label HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 1_200_000, b"413"),
        (
            b"POST /label HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n[[[[",
            b"400",
        ),
        (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
    ],
)
def test_what_is_too_large_or_no_request_is_refused(
    shared: tuple[Dashboard, CameraFeed], text: bytes, status: bytes
) -> None:
    assert raw(shared[0].port, text).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b'{"label":1,"camera":[],"seq":{}}',
        b'{"label":"x","camera":"tray","seq":1}',
        b"\xff",
        b"[" * 5000,
    ],
)
def test_a_label_that_says_nothing_is_refused(page: tuple[Dashboard, CameraFeed], body: bytes) -> None:
    dashboard, feed = page
    with viewing(dashboard.port) as take:
        feed.write(*part(1))
        first(take, "part")
        assert request(dashboard.port, "POST", "/label", body, JSON)[0] in (400, 404)


def test_a_label_is_kept_with_the_record_and_the_picture(page: tuple[Dashboard, CameraFeed], tmp_path: Path) -> None:
    dashboard, feed = page
    with viewing(dashboard.port) as take:
        feed.write(*part(5, Verdict.NG, part_id=NASTY))
        shown = first(take, "reject")
        origin = {"Origin": f"http://127.0.0.1:{dashboard.port}", "Sec-Fetch-Site": "same-origin"}
        status, _, _ = request(dashboard.port, "POST", "/label", label("false_reject", 5), JSON | origin)
    assert status == 200
    (line,) = [json.loads(each) for each in (tmp_path / "labels" / FILE_NAME).read_text().splitlines()]
    assert (line["label"], line["camera"], line["seq"], line["part_id"]) == ("false_reject", "tray", 5, NASTY)
    assert line["record"] == shown.head["record"]
    assert (tmp_path / "labels" / line["picture"]).read_bytes() == shown.picture


def test_a_label_that_contradicts_nothing_is_refused(page: tuple[Dashboard, CameraFeed], tmp_path: Path) -> None:
    dashboard, feed = page
    with viewing(dashboard.port) as take:
        feed.write(*part(5))
        first(take, "part")
        assert request(dashboard.port, "POST", "/label", label("false_reject", 5), JSON)[0] == 400
    assert list((tmp_path / "labels").iterdir()) == []


def test_without_a_folder_no_label_is_taken() -> None:
    with served() as (dashboard, (feed,)), viewing(dashboard.port) as take:
        feed.write(*part(5))
        first(take, "part")
        assert request(dashboard.port, "POST", "/label", label("missed", 5), JSON)[0] == 404


def test_a_line_that_stands_is_not_ready() -> None:
    with served() as (dashboard, (feed,)):
        assert request(dashboard.port, "GET", "/health")[0] in (200, 503)
        until(lambda: request(dashboard.port, "GET", "/health")[0] == 200)
        feed.close()
        until(lambda: request(dashboard.port, "GET", "/health")[0] == 503)


def test_two_hundred_slow_clients_delay_no_write_and_a_viewer_sees_the_newest_part(
    page: tuple[Dashboard, CameraFeed],
) -> None:
    dashboard, feed = page
    with viewing(dashboard.port) as take, ExitStack() as stack:
        for index in range(200):
            stack.callback(slow_client(dashboard.port, "/feed" if index % 2 else "/page.js").close)
        for seq in range(1, 2001):
            feed.write(*CHEAP[seq % 2])
        feed.write(*part(2001))
        assert first(take, "part", lambda head: head["record"]["seq"] == 2001)
        state = first(take, "state", lambda head: sum(head["verdicts"].values()) == 2001)
        assert state.head["missed"] == 0


CHEAP = (part(1), part(2, Verdict.NG))


def test_more_connections_than_the_limit_are_closed_at_once(shared: tuple[Dashboard, CameraFeed]) -> None:
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", shared[0].port), WAIT_S))
            for _ in range(CONNECTIONS + 1)
        ]
        with pytest.raises(ConnectionResetError):
            clients[-1].recv(1) or _reset()
    until(lambda: request(shared[0].port, "GET", "/")[0] == 200)


def _reset() -> None:
    raise ConnectionResetError  # an orderly end says the same


def test_a_client_that_never_asks_and_one_that_never_reads_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_READ_S", 0.1)
    monkeypatch.setattr(serving, "_WRITE_S", 0.1)

    async def talk() -> None:
        server = Server(None, "")
        port = await server.listen("127.0.0.1", 0)
        silent = await asyncio.open_connection("127.0.0.1", port)
        assert await silent[0].read() == b""
        watching = asyncio.get_running_loop().create_future()
        server.hub.on_viewers = lambda viewers: None if viewers else watching.set_result(None)
        with slow_client(port):
            for seq in range(40):  # more than both ends buffer
                server.hub.put(pack({"kind": "part", "camera": "tray", "record": {"seq": seq}}, bytes(1 << 20)))
                await asyncio.sleep(0.01)
            await asyncio.wait_for(watching, WAIT_S)
        silent[1].close()
        server.close()

    asyncio.run(talk())


def test_a_slow_viewer_gets_new_parts_and_skips_old_ones() -> None:
    async def talk() -> list[int]:
        hub, seen = serving.Hub(), []
        viewer = hub.newest()
        for seq in range(10):
            hub.put(pack({"kind": "part", "camera": "tray", "record": {"seq": seq}}))
            if seq in (0, 5, 9):
                seen.append((await viewer.__anext__()).head["record"]["seq"])
        await viewer.aclose()
        return seen

    assert asyncio.run(talk()) == [0, 5, 9]
