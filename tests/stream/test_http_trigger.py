"""Parts asked for by HTTP: one request, one record, and nothing for those who may not ask."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from scripted import CollectingSink, ScriptedSource, frame
from tiny import good_picture

from lad_edge.errors import UsageError
from lad_edge.inspector import Inspector, Options
from lad_edge.stream.http_trigger import HttpTrigger
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.parts import Parts
from lad_edge.values import Frame

WAIT_S = 20.0
TOKEN = "of-the-line"


@pytest.fixture
def line(open_inspector: Callable[..., Inspector], request: pytest.FixtureRequest) -> Iterator[Line]:
    """A running line that is triggered by HTTP, with the token that the test asks for."""
    end, token = threading.Event(), getattr(request, "param", None)

    def pictures() -> Iterator[Frame]:
        while not end.is_set():
            time.sleep(0.002)
            yield frame(good_picture(0))

    options = LineOptions(trigger=lambda parts: HttpTrigger(parts, ("127.0.0.1", 0), token))
    running = Line(ScriptedSource(pictures(), live=True), open_inspector(Options()), [CollectingSink()], options)
    thread = threading.Thread(target=running.run)
    thread.start()
    yield running
    end.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def connect(line: Line) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", line.trigger.port, timeout=WAIT_S)


def post(line: Line, body: str = "", path: str = "/trigger", **headers: str) -> tuple[int, dict[str, object]]:
    with closing(connect(line)) as connection:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_each_request_has_the_record_of_its_part(line: Line) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: post(line, json.dumps({"part_id": f"tray-{i}"})), range(40)))
    assert {status for status, _ in answers} == {200}
    assert [answer["part_id"] for _, answer in answers] == [f"tray-{i}" for i in range(40)]
    assert {answer["verdict"] for _, answer in answers} == {"OK"}
    assert line.parts.triggered == 40


def test_a_connection_is_kept(line: Line) -> None:
    seqs = []
    with closing(connect(line)) as connection:
        for _ in range(3):
            connection.request("POST", "/trigger")
            seqs.append(json.loads(connection.getresponse().read())["seq"])
    assert seqs == [1, 2, 3]


@pytest.mark.parametrize(
    ("body", "path", "status", "message"),
    [
        ("", "/other", 404, "there is POST /trigger"),
        ("{", "/trigger", 400, "expected"),
        ("[1]", "/trigger", 400, "expected"),
        ('{"part_id": 7}', "/trigger", 400, "expected"),
        ('{"part_id": "a/../b"}', "/trigger", 400, "expected"),
        ('{"part_id": "' + "x" * 65 + '"}', "/trigger", 400, "64 at most"),
        ("[" * 4000, "/trigger", 400, "expected"),
        ("x" * 5000, "/trigger", 413, "at most 4096 bytes"),
    ],
)
def test_what_is_no_trigger_is_no_part(line: Line, body: str, path: str, status: int, message: str) -> None:
    answered, answer = post(line, body, path)
    assert answered == status
    assert message in str(answer["error"])
    assert line.parts.triggered == 0


def test_another_method_is_told_what_there_is(line: Line) -> None:
    with closing(connect(line)) as connection:
        connection.request("GET", "/trigger")
        answer = connection.getresponse()
        assert answer.status == 501
        assert "there is POST /trigger" in json.loads(answer.read())["error"]
    assert line.parts.triggered == 0


@pytest.mark.parametrize("line", [TOKEN], indirect=True)
def test_a_token_is_asked_for(line: Line) -> None:
    assert post(line)[0] == 401
    assert post(line, Authorization="Bearer another")[0] == 401
    assert post(line, Authorization=f"Bearer {TOKEN}")[0] == 200
    assert line.parts.triggered == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "line-pc"])
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="it needs --token-file"):
        HttpTrigger(Parts(1, lambda *_: None, wait_when_full=False), (host, 0))  # type: ignore[arg-type, return-value]


def test_a_port_in_use_is_named(line: Line) -> None:
    with pytest.raises(UsageError, match="choose another address"):
        HttpTrigger(line.parts, ("127.0.0.1", line.trigger.port))


def test_requests_that_no_thread_could_be_started_for_take_no_places(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    line.trigger.notice = told.append

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    assert post(line)[0] == 200
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(70):  # more than there are places
            with pytest.raises(ConnectionError):
                post(line)
    assert post(line)[0] == 200
    assert told == ["--trigger http: a request has failed: can't start new thread"] * 70
