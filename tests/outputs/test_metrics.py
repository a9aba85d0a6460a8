"""/metrics as Prometheus' own parser reads it, and /health, over HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
from outbox_samples import ORIGIN, RESULT, WAIT_S, frame, quiet, results, until
from prometheus_client.parser import text_string_to_metric_families

from lad_edge.errors import SinkError
from lad_edge.outputs.metrics import MetricsServer
from lad_edge.outputs.opening import Outputs, open_outputs
from lad_edge.values import Reason, Verdict


@pytest.fixture
def outputs(tmp_path: Path) -> Iterator[Outputs]:
    outputs = open_outputs([f"sqlite:{tmp_path / 'r.sqlite'}?reserve=0B", f"csv:{tmp_path / 'r.csv'}"], ORIGIN, quiet)
    yield outputs
    outputs.close()


@pytest.fixture
def server(outputs: Outputs) -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1", 0, outputs)
    yield server
    server.close()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def samples(server: MetricsServer) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(get(server, "/metrics")[1])
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_counts_histograms_and_outputs_are_what_prometheus_reads(server: MetricsServer, outputs: Outputs) -> None:
    for result in results(1, 20, stages_us={"total": 4200.0}):
        for sink in (*outputs.sinks, server):
            sink.write(frame(), result)
    server.write(frame(), replace(RESULT, verdict=Verdict.UNKNOWN, reasons=(Reason.DROPPED,), score=None))
    assert outputs.flush(WAIT_S)
    until(lambda: all(delivery.drained() for delivery in outputs.deliveries))
    found = samples(server)
    assert found["lad_edge_parts_total", ("NG",)] == 20
    assert found["lad_edge_reasons_total", ("DROPPED",)] == 1
    assert found["lad_edge_stage_seconds_bucket", ("total", "0.002")] == 0
    assert found["lad_edge_stage_seconds_bucket", ("total", "0.005")] == 20
    assert found["lad_edge_stage_seconds_count", ("total",)] == 20
    assert found["lad_edge_stage_seconds_sum", ("total",)] == pytest.approx(0.084)
    delivered = {
        labels[0]: value for (name, labels), value in found.items() if name == "lad_edge_output_delivered_total"
    }
    assert list(delivered.values()) == [20]
    assert next(iter(delivered)).startswith("csv:")
    assert next(value for (name, _), value in found.items() if name == "lad_edge_output_stored_total") == 20


def test_a_healthy_line_is_ready_and_a_lost_camera_is_not(server: MetricsServer) -> None:
    status, text = get(server, "/health")
    assert status == 200
    assert (json.loads(text)["ready"], json.loads(text)["degraded"]) == (True, False)
    server.write(frame(), replace(RESULT, verdict=Verdict.UNKNOWN, reasons=(Reason.CAMERA_LOST,), score=None))
    status, text = get(server, "/health")
    assert status == 503
    assert json.loads(text)["codes"] == ["CAMERA_LOST"]
    server.write(frame(), RESULT)
    assert get(server, "/health")[0] == 200


def test_an_output_that_is_behind_degrades_but_the_line_stays_ready(tmp_path: Path) -> None:
    dead = [f"sqlite:{tmp_path / 'r.sqlite'}?reserve=0B", "http://127.0.0.1:1/hook"]
    outputs = open_outputs(dead, ORIGIN, quiet)
    server = MetricsServer("127.0.0.1", 0, outputs)
    outputs.sinks[0].write(frame(), RESULT)
    until(lambda: "SINK_BEHIND" in server.codes())
    status, text = get(server, "/health")
    health = json.loads(text)
    assert (status, health["ready"], health["degraded"]) == (200, True, True)
    assert next(state for state in health["outputs"] if state["name"].startswith("http"))["backlog"] == 1
    server.close()
    outputs.close(stopped=lambda: True)


def test_other_paths_and_silent_clients_get_nothing(server: MetricsServer) -> None:
    assert get(server, "/../../etc/passwd")[0] == 404
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
    until(lambda: server._server._places._value == 0)
    refused = socket.create_connection(("127.0.0.1", server.port))
    assert refused.recv(1) == b""  # the ninth at a time is turned away
    for client in (*silent, refused):
        client.close()
    until(lambda: server._server._places._value == 8)
    assert get(server, "/metrics")[0] == 200


def test_a_port_that_is_taken_is_an_error(server: MetricsServer, outputs: Outputs) -> None:
    with pytest.raises(SinkError, match="choose another"):
        MetricsServer("127.0.0.1", server.port, outputs)


def test_label_values_of_any_kind_are_read_back(outputs: Outputs) -> None:
    odd = replace(outputs, origin=replace(ORIGIN, versions={"runtime": 'a"b\\c\nd'}))
    server = MetricsServer("127.0.0.1", 0, odd)
    info = next(family for family in text_string_to_metric_families(server.metrics()) if family.name == "lad_edge_info")
    assert info.samples[0].labels["runtime"] == 'a"b\\c\nd'
    server.close()
