"""`lad-edge run` as its user starts it, between a PLC that triggers and a broker: whoever counts, counts the same."""

from __future__ import annotations

import csv
import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from background import running, wait_for
from broker import Subscriber, free_port, needs_broker, running_broker
from outbox_samples import stored
from waiting import until

from lad_edge.cli import main
from lad_edge.outputs.ledger import verify

PARTS = 40


@needs_broker
def test_the_plc_the_outbox_the_table_and_the_broker_count_the_same(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plc = f"modbus://127.0.0.1:{free_port()}"
    with running_broker(tmp_path) as broker:
        subscriber = Subscriber(broker.port)
        outs = (f"sqlite:{tmp_path}/line.sqlite", f"csv:{tmp_path}/line.csv", f"mqtt://127.0.0.1:{broker.port}/line")
        words = ("run", "--engine", tiny_bundle, "--camera", "pattern://64x48?fps=100", "--plc", plc, "--quiet")
        with running(*words, *(word for out in outs for word in ("--out", out))) as line:
            wait_for(line, "self-test passed")
            status = main(["io", "fake-plc", plc, "--parts", str(PARTS), "--timeout", "20s", "--json"])
            until(lambda: len(subscriber.records()) >= PARTS)
            line.send_signal(signal.SIGTERM)
            assert line.wait(10) == 0
        subscriber.stop()
    account = json.loads(capsys.readouterr().out)
    assert (status, account["triggers"], account["unanswered"]) == (0, PARTS, 0)
    assert verify(tmp_path / "line.sqlite") == PARTS
    with (tmp_path / "line.csv").open(newline="") as file:
        table = [(int(row["seq"]), row["verdict"]) for row in csv.DictReader(file)]
    kept = [(each.record["seq"], each.record["verdict"]) for each in stored(tmp_path / "line.sqlite")]
    sent = [(record["seq"], record["verdict"]) for record in subscriber.records()]
    assert kept == table == sent
    assert [seq for seq, _ in kept] == list(range(1, PARTS + 1))
    assert Counter(verdict for _, verdict in kept) == +Counter(account["verdicts"])
