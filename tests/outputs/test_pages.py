"""docs/ names every field of a record, every reason with its number and every metric, and the receiver of its webhook works."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
from broker import free_port
from outbox_samples import ORIGIN, RESULT, WAIT_S, frame, quiet
from waiting import until

from lad_edge.cli import main
from lad_edge.outputs.metrics import MetricsServer, WatchedLine
from lad_edge.outputs.opening import open_outputs
from lad_edge.plc.codes import REASON_CODES
from lad_edge.stream.health import WARNINGS, Health, Trouble
from lad_edge.stream.stats import Stats
from lad_edge.stream.watchdog import Beats
from lad_edge.values import Reason, Region

DOCS = Path(__file__).parents[2] / "docs"
_NAME = re.compile(r"`(\w+)`")


def page(name: str) -> str:
    return (DOCS / name).read_text()


def first_cells(text: str) -> list[str]:
    """What is named in the first cell of each row, in order."""
    return [name for cell in re.findall(r"^\| (`[^|]*)\|", text, re.MULTILINE) for name in _NAME.findall(cell)]


def block(text: str, language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> dict[str, object]:
    """Of a line that ran."""
    path = tmp_path_factory.mktemp("line") / "parts.jsonl"
    words = ["run", "--engine", str(tiny_bundle), "--source", "pattern://64x48?frames=1", "--quiet"]
    assert main([*words, "--out", f"sqlite:{path}.sqlite?reserve=0B", "--out", f"jsonl:{path}"]) == 0
    fields_of_a_line: dict[str, object] = json.loads(path.read_text())
    return fields_of_a_line


def test_the_page_of_the_record_names_its_fields_and_shows_a_whole_one(record: dict[str, object]) -> None:
    text = page("outputs/record.md")
    assert first_cells(text) == list(record)
    shown = json.loads(block(text, "json"))
    assert list(shown) == list(record)
    parts_of_a_region = {field.name for field in fields(Region)}
    assert set(shown["regions"][0]) == parts_of_a_region
    (row,) = (line for line in text.splitlines() if line.startswith("| `regions`"))
    assert set(_NAME.findall(row)) - {"regions"} == parts_of_a_region


def test_the_page_of_the_reasons_names_each_with_its_number_and_the_warnings_apart() -> None:
    text = page("reasons.md")
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", text, re.MULTILINE)
    assert [(Reason(code), int(number)) for code, number in rows] == list(REASON_CODES.items())
    assert {Reason(code) for code in first_cells(text.partition("## Warnings")[2])} == WARNINGS


def test_the_page_of_the_metrics_names_each(tmp_path: Path) -> None:
    words = (f"sqlite:{tmp_path}/r.sqlite?reserve=0B", f"csv:{tmp_path}/r.csv", f"images:{tmp_path}/pictures")
    outputs, stats = open_outputs(words, ORIGIN, quiet), Stats()
    health = Health(Beats(), outputs.states, quiet)
    health.troubles = (Trouble(Reason.SINK_BEHIND, "csv:r.csv"),)
    stats.add(RESULT)
    stats.add_late(RESULT)
    server = MetricsServer("127.0.0.1", 0, ["top"])
    server.watch("top", WatchedLine(health, stats, outputs.identity, lambda: {"frames": 1}))
    served = re.findall(r"^# TYPE lad_edge_(\w+) ", server.metrics(), re.MULTILINE)
    server.close()
    outputs.close()
    table = page("outputs/metrics.md").partition("\n| metric")[2].partition("\n\n")[0]
    assert sorted(first_cells(table)) == sorted(served)


def test_the_columns_of_the_table_stand_on_its_page(tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    outputs = open_outputs([f"sqlite:{tmp_path}/r.sqlite?reserve=0B", f"csv:{path}"], ORIGIN, quiet)
    outputs.sinks[0].write(frame(), replace(RESULT, part_id="tray-17"))
    until(lambda: path.exists() and len(path.read_text().splitlines()) == 2)
    outputs.close()
    shown = block(page("outputs/csv.md"), "text").splitlines()
    assert shown[0] == path.read_text().splitlines()[0]
    assert len(shown[1].split(",")) == len(shown[0].split(","))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The page's receiver on a free port, and its process."""
    port = free_port()
    program = block(page("outputs/webhook.md"), "python")
    assert program.count("8000") == 1
    (tmp_path / "receiver.py").write_text(program.replace("8000", str(port)))
    (tmp_path / "hook.secret").write_text("of-the-plant\n")
    (tmp_path / "hook.secret").chmod(0o600)
    words = [sys.executable, "-u", "receiver.py"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield port, process
        process.kill()


def test_the_receiver_of_the_page_takes_what_is_signed_with_its_secret_and_each_record_once(
    receiver: tuple[int, subprocess.Popen[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port, process = receiver
    until(lambda: answers(port))
    (tmp_path / "other.secret").write_text("of-somebody-else\n")
    (tmp_path / "other.secret").chmod(0o600)
    address = f"http://127.0.0.1:{port}/hooks/line3?secret-file={tmp_path}"
    assert main(["io", "test", f"{address}/hook.secret"]) == 0
    assert main(["io", "test", f"{address}/other.secret"]) != 0
    assert "HTTP 401" in capsys.readouterr().err
    assert [post(port, b'{"verdict":"NG"}', "box/top/1/7") for _ in range(2)] == [204, 204]
    process.terminate()
    printed = process.communicate()[0].splitlines()
    assert [line.split()[0] for line in printed] == ["UNKNOWN", "NG"]
    assert printed[1] == "NG box/top/1/7"


def answers(port: int) -> bool:
    try:
        return post(port, b"", "unsigned", secret=b"none") == 401
    except ConnectionRefusedError:
        return False


def post(port: int, body: bytes, key: str, secret: bytes = b"of-the-plant") -> int:
    """Signed by hand, so that the page is compared with the specification and not with our sender."""
    signature = base64.b64encode(hmac.digest(secret, f"{key}.1.".encode() + body, hashlib.sha256)).decode()
    headers = {"webhook-id": key, "webhook-timestamp": "1", "webhook-signature": f"v1,{signature}"}
    connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.request("POST", "/", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status
