"""/metrics as Prometheus' own parser reads it, and /health, over HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
from outbox_samples import ORIGIN, RESULT, WAIT_S, frame, quiet, results
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from lad_edge.errors import SinkError
from lad_edge.outputs.metrics import MetricsServer, WatchedLine
from lad_edge.outputs.opening import Outputs, open_outputs
from lad_edge.stream.health import Health, Trouble
from lad_edge.stream.stats import Stats
from lad_edge.stream.watchdog import Beats
from lad_edge.values import Reason, Verdict


@pytest.fixture
def outputs(tmp_path: Path) -> Iterator[Outputs]:
    outputs = open_outputs([f"sqlite:{tmp_path / 'r.sqlite'}?reserve=0B", f"csv:{tmp_path / 'r.csv'}"], ORIGIN, quiet)
    yield outputs
    outputs.close()


class Shown:
    """A server that watches one line, whose results and troubles the test decides."""

    def __init__(self, outputs: Outputs) -> None:
        self.stats = Stats()
        self.health = Health(Beats(), outputs.states, quiet)
        self.health.troubles = ()
        self.server = MetricsServer("127.0.0.1", 0, ["top"])
        self.source = {"frames": 20, "incomplete": 3, "reopened": 1}
        self.server.watch("top", WatchedLine(self.health, self.stats, outputs.identity, lambda: self.source))
        self.port = self.server.port


@pytest.fixture
def server(outputs: Outputs) -> Iterator[Shown]:
    shown = Shown(outputs)
    yield shown
    shown.server.close()


def get(server: Shown, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def samples(server: Shown) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(get(server, "/metrics")[1])
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_counts_histograms_and_outputs_are_what_prometheus_reads(server: Shown, outputs: Outputs) -> None:
    for result in results(1, 20, stages_us={"total": 4200.0}):
        for sink in outputs.sinks:
            sink.write(frame(), result)
        server.stats.add(result)
    server.stats.add(replace(RESULT, verdict=Verdict.UNKNOWN, reasons=(Reason.DROPPED,), score=None))
    assert outputs.flush(WAIT_S)
    until(lambda: all(delivery.drained() for delivery in outputs.deliveries.values()))
    found = samples(server)
    assert found["lad_edge_parts_total", ("top", "NG")] == 20
    assert found["lad_edge_reasons_total", ("top", "DROPPED")] == 1
    assert found["lad_edge_source_total", ("top", "incomplete")] == 3
    assert found["lad_edge_stage_seconds_bucket", ("top", "total", "0.002")] == 0
    assert found["lad_edge_stage_seconds_bucket", ("top", "total", "0.005")] == 20
    assert found["lad_edge_stage_seconds_count", ("top", "total")] == 20
    assert found["lad_edge_stage_seconds_sum", ("top", "total")] == pytest.approx(0.084)
    delivered = {
        labels[1]: value for (name, labels), value in found.items() if name == "lad_edge_output_delivered_total"
    }
    assert list(delivered.values()) == [20]
    assert next(iter(delivered)).startswith("csv:")
    assert next(value for (name, _), value in found.items() if name == "lad_edge_output_stored_total") == 20


def test_a_healthy_line_is_ready_and_a_lost_camera_is_not(server: Shown) -> None:
    status, text = get(server, "/health")
    assert status == 200
    assert (json.loads(text)["status"], json.loads(text)["degraded"]) == ("ready", False)
    assert samples(server)["lad_edge_ready", ("top",)] == 1
    server.health.troubles = (Trouble(Reason.CAMERA_LOST, "camera", "the cable is out"),)
    status, text = get(server, "/health")
    health = json.loads(text)
    assert (status, health["status"], health["codes"]) == (503, "live", ["CAMERA_LOST"])
    assert health["cameras"]["top"]["troubles"] == [
        {"code": "CAMERA_LOST", "where": "camera", "detail": "the cable is out"}
    ]
    found = samples(server)
    assert found["lad_edge_ready", ("top",)] == 0
    assert found["lad_edge_degraded", ("top", "CAMERA_LOST", "camera")] == 1


def test_a_process_is_ready_with_its_last_camera(outputs: Outputs, server: Shown) -> None:
    both = MetricsServer("127.0.0.1", 0, ["top", "side"])
    line = WatchedLine(server.health, server.stats, outputs.identity)
    both.watch("top", line)
    assert both.health()["codes"] == ["STARTING"]
    assert not both.health()["ready"]
    both.watch("side", line)
    assert both.health()["status"] == "ready"
    assert set(both.health()["cameras"]) == {"top", "side"}
    both.close()


def test_an_output_that_is_behind_degrades_but_the_line_stays_ready(tmp_path: Path) -> None:
    dead = [f"sqlite:{tmp_path / 'r.sqlite'}?reserve=0B", "http://127.0.0.1:1/hook"]
    outputs = open_outputs(dead, ORIGIN, quiet)
    shown = Shown(outputs)
    outputs.sinks[0].write(frame(), RESULT)
    until(lambda: any("SINK_BEHIND" in state.codes for state in outputs.states()))
    shown.health.troubles = (Trouble(Reason.SINK_BEHIND, "http://127.0.0.1:1/hook"),)
    status, text = get(shown, "/health")
    health = json.loads(text)
    assert (status, health["status"], health["ready"], health["degraded"]) == (200, "degraded", True, True)
    behind = next(state for state in health["cameras"]["top"]["outputs"] if state["name"].startswith("http"))
    assert behind["backlog"] == 1
    shown.server.close()
    outputs.close(stopped=lambda: True)


def test_clients_that_no_thread_could_be_started_for_take_no_places(
    server: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(20):
            with pytest.raises(ConnectionError):
                get(server, "/health")
    assert get(server, "/health")[0] == 200


def test_other_paths_and_silent_clients_get_nothing(server: Shown) -> None:
    assert get(server, "/../../etc/passwd")[0] == 404
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
    until(lambda: server.server._server._places._value == 0)
    refused = socket.create_connection(("127.0.0.1", server.port))
    assert refused.recv(1) == b""  # the ninth at a time is turned away
    for client in (*silent, refused):
        client.close()
    until(lambda: server.server._server._places._value == 8)
    assert get(server, "/metrics")[0] == 200


def test_a_port_that_is_taken_is_an_error(server: Shown) -> None:
    with pytest.raises(SinkError, match="choose another"):
        MetricsServer("127.0.0.1", server.port, ["top"])


def test_label_values_of_any_kind_are_read_back(outputs: Outputs, server: Shown) -> None:
    outputs.relabel(replace(ORIGIN, versions={"runtime": 'a"b\\c\nd'}))
    text = server.server.metrics()
    info = next(family for family in text_string_to_metric_families(text) if family.name == "lad_edge_info")
    assert info.samples[0].labels["runtime"] == 'a"b\\c\nd'
