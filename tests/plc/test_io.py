"""lad-edge io, at a line that runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest
from stations import Station, station

from lad_edge.cli import main
from lad_edge.inspector import Inspector, Options
from lad_edge.plc.diagram import moments
from lad_edge.plc.registers import HOLDING, INPUT, SIGNALS
from lad_edge.values import Reason


@pytest.fixture
def running(open_inspector: Callable[..., Inspector]) -> Iterator[Station]:
    with station(open_inspector(Options())) as opened:
        yield opened


def uri(running: Station) -> str:
    return f"modbus://127.0.0.1:{running.plc.port}"


def test_fake_plc_and_the_line_count_the_same(running: Station, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["io", "fake-plc", uri(running), "--parts", "20", "--interval", "5ms", "--json"]) == 0
    account = json.loads(capsys.readouterr().out)
    assert account["triggers"] == 20 == len(running.records.results)
    assert account["verdicts"] == {name: running.verdicts.count(name) for name in ("OK", "NG", "UNKNOWN")}
    assert 0.0 < account["trigger_to_result_ms"]["p50"] <= account["trigger_to_result_ms"]["p99"]


def test_fake_plc_says_what_was_wrong(running: Station, capsys: pytest.CaptureFixture[str]) -> None:
    running.plc.stop()
    assert main(["io", "fake-plc", uri(running), "--parts", "1", "--timeout", "200ms"]) == 2
    assert "WRONG  part-1: no READY within 0.2 s" in capsys.readouterr().out


def test_a_line_is_tried(running: Station, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["io", "test", uri(running), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["heartbeat"], found["ready"], found["map_version"]) == ("moves", True, 1)


def test_a_line_that_is_not_there_is_told(running: Station, capsys: pytest.CaptureFixture[str]) -> None:
    running.plc.close()
    assert main(["io", "test", uri(running)]) == 6
    assert "is the line running with --plc?" in capsys.readouterr().err


def test_an_output_gets_one_record_that_is_no_part(capsys: pytest.CaptureFixture[str]) -> None:
    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        assert main(["io", "test", f"http://127.0.0.1:{server.server_address[1]}/results"]) == 0
        server.shutdown()
        thread.join()
    (record,) = map(json.loads, bodies)
    assert (record["verdict"], record["camera_id"]) == ("UNKNOWN", "io-test")
    assert "works: acknowledged_ms" in capsys.readouterr().out


def test_an_output_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["io", "test", "http://127.0.0.1:1/results"]) == 6
    assert "http://127.0.0.1:1/results: no answer: ConnectionRefusedError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["test", "csv:results.csv"], "files need no test"),
        (["test", "modbus://127.0.0.1:x"], "URI modbus://127.0.0.1:x"),
        (["fake-plc", "opcua://127.0.0.1:4840"], "speaks Modbus alone"),
        (["diagram", "--svg", "/proc/no.svg"], "choose another --svg"),
    ],
)
def test_what_cannot_be_done_is_told(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["io", *words]) in (1, 6)
    assert message in capsys.readouterr().err


def test_the_map_names_every_register_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["io", "diagram", "--map"]) == 0
    words = set(capsys.readouterr().out.split())
    assert words >= {register.name for register in (*HOLDING, *INPUT)} | set(SIGNALS)
    assert words >= {reason.value for reason in Reason}


@pytest.mark.parametrize("registers", [HOLDING, INPUT])
def test_registers_follow_each_other_without_gaps(registers: tuple[object, ...]) -> None:
    address = 0
    for register in registers:
        assert register.address == address  # type: ignore[attr-defined]
        address += register.words  # type: ignore[attr-defined]


def test_the_diagram_shows_a_token_for_each_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "handshake.svg"
    assert main(["io", "diagram"]) == 0
    assert main(["io", "diagram", "--svg", str(picture)]) == 0
    rows = dict(line.split() for line in capsys.readouterr().out.splitlines() if "█" in line)
    tokens = {verdict: rows[verdict].replace("▁", " ").split() for verdict in ("OK", "NG", "UNKNOWN")}
    assert tokens == {verdict: ["████"] for verdict in tokens}
    paths = ElementTree.parse(picture).getroot().findall("{http://www.w3.org/2000/svg}path")
    assert len(paths) == len(moments()[0].signals)


def test_what_plc_takes_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["io", "list", "--json"]) == 0
    assert [bus["scheme"] for bus in json.loads(capsys.readouterr().out)["plc"]] == ["modbus", "opcua"]
