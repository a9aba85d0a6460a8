"""Store and forward with outputs whose every answer the test decides: order, bounds, failures, and nobody waits for anybody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from outbox_samples import WAIT_S, fill, frame, open_outbox, quiet, results, seqs
from waiting import until

from lad_edge.outputs.delivery import BackOff, Delivery, DeliveryError
from lad_edge.outputs.ledger import Retention, Stored
from lad_edge.outputs.outbox import Outbox


class ScriptedOutput:
    """Keeps what it acknowledges; `answer` is asked first, and may block or raise."""

    slowest_retry_s = 0.3

    def __init__(
        self, answer: Callable[[Sequence[Stored]], None] = lambda records: None, name: str = "scripted"
    ) -> None:
        self.name, self.answer = name, answer
        self.records: list[Stored] = []
        self.batches: list[int] = []
        self.opened = self.closed = 0

    def open(self) -> None:
        self.opened += 1

    def deliver(self, records: Sequence[Stored]) -> None:
        self.batches.append(len(records))
        self.answer(records)
        self.records += records

    def idle(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def deliver(outbox: Outbox, output: ScriptedOutput, *, from_start: bool = False) -> Delivery:
    delivery = Delivery(outbox, output, quiet, from_start=from_start)
    delivery.start()
    return delivery


def test_a_bounded_number_of_records_is_read_ahead(outbox: Outbox) -> None:
    fill(outbox, 1, 500)
    output = ScriptedOutput()
    delivery = deliver(outbox, output, from_start=True)
    until(delivery.drained)
    assert seqs(output.records) == list(range(1, 501))
    assert max(output.batches) == 64
    assert delivery.stop()


def test_what_was_acknowledged_before_a_failure_does_not_come_again(outbox: Outbox) -> None:
    failures = iter([3, 1])
    output = ScriptedOutput()

    def fail_twice(records: Sequence[Stored]) -> None:
        if len(records) > 3 and (count := next(failures, None)) is not None:
            output.records += records[:count]
            raise DeliveryError("scripted", count)

    output.answer = fail_twice
    fill(outbox, 1, 20)
    delivery = deliver(outbox, output, from_start=True)
    until(delivery.drained)
    assert seqs(output.records) == list(range(1, 21))
    assert delivery.health().failures == 2
    assert output.opened == 3
    assert delivery.stop()


def test_an_output_that_fails_again_and_again_is_tried_with_one_record(outbox: Outbox) -> None:
    broken = threading.Event()

    def refuse(records: Sequence[Stored]) -> None:
        if not broken.is_set():
            raise DeliveryError("scripted")

    output = ScriptedOutput(refuse)
    fill(outbox, 1, 100)
    delivery = deliver(outbox, output, from_start=True)
    until(lambda: len(output.batches) > 5)
    assert delivery.health().state == "broken"
    assert output.batches[:3] == [64, 64, 64]
    assert set(output.batches[4:]) == {1}
    broken.set()
    until(delivery.drained)
    assert seqs(output.records) == list(range(1, 101))
    assert delivery.stop()


def test_a_fault_in_the_code_of_an_output_does_not_end_its_thread(outbox: Outbox) -> None:
    faults = iter([ZeroDivisionError("scripted"), KeyError("scripted")])

    def stumble(records: Sequence[Stored]) -> None:
        if (fault := next(faults, None)) is not None:
            raise fault

    delivery = deliver(outbox, ScriptedOutput(stumble))
    fill(outbox, 1, 3)
    until(delivery.drained)
    assert delivery.health().failures == 2
    assert delivery.stop()


def test_an_output_that_hangs_holds_up_neither_the_line_nor_its_neighbour_nor_the_end(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "r.sqlite")
    release = threading.Event()
    hanging = deliver(outbox, ScriptedOutput(lambda records: release.wait(WAIT_S) and None, "hanging"))
    healthy = deliver(outbox, ScriptedOutput(name="healthy"))
    fill(outbox, 1, 200)
    until(healthy.drained)
    until(lambda: "SINK_BEHIND" in hanging.health().codes)
    assert hanging.health().backlog == 200
    assert not hanging.stop(0.1)
    assert healthy.stop()
    outbox.close()
    release.set()
    hanging.join(WAIT_S)


def test_records_that_the_quota_took_before_they_were_delivered_are_counted(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "r.sqlite", retention=Retention(max_bytes=1 << 20))
    gate = threading.Event()
    output = ScriptedOutput(lambda records: gate.wait(WAIT_S) and None)
    delivery = deliver(outbox, output)
    for result in results(1, 5000):
        outbox.write(frame(), result)
    assert outbox.flush(WAIT_S)
    until(lambda: output.batches)
    gate.set()
    until(delivery.drained)
    health = delivery.health()
    assert health.expired > 0
    assert health.delivered + health.expired == 5000
    assert "NOT_DURABLE" in health.codes
    assert seqs(output.records) == sorted(set(seqs(output.records)))
    assert delivery.stop()
    outbox.close()


def test_the_age_of_what_waits_is_counted_over_restarts_and_reset_when_it_is_gone(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "r.sqlite")
    fill(outbox, 1, 1)
    outbox._started_s -= 3600  # an hour later
    refused = threading.Event()

    def refuse(records: Sequence[Stored]) -> None:
        refused.set()
        raise DeliveryError("scripted")

    output = ScriptedOutput(refuse)
    delivery = deliver(outbox, output, from_start=True)
    assert refused.wait(WAIT_S)
    assert 3600 <= delivery.health().oldest_s < 3700
    output.answer = lambda records: None
    until(delivery.drained)
    assert delivery.health().oldest_s == 0.0
    assert delivery.stop()
    outbox.close()


@pytest.mark.parametrize("slowest_s", [0.25, 2.0, 30.0])
def test_pauses_grow_to_their_limit_and_are_never_equal_for_all(slowest_s: float) -> None:
    several = [[back_off.next_s() for _ in range(12)] for back_off in (BackOff(slowest_s) for _ in range(20))]
    assert all(0.125 <= pause_s <= slowest_s for pauses in several for pause_s in pauses)
    assert all(max(pauses[-3:]) >= 0.5 * slowest_s for pauses in several)
    assert len({pauses[-1] for pauses in several}) == 20
