"""MQTT against a real broker that is frozen, killed, cut off and suspicious: in order, once by key, none left out."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from broker import MOSQUITTO, Broker, Gate, Subscriber, needs_broker, running_broker
from outbox_samples import ORIGIN, fill, frame, open_outbox, quiet, results
from waiting import until

from lad_edge.cli import main
from lad_edge.errors import UsageError
from lad_edge.outputs.address import parse
from lad_edge.outputs.delivery import Delivery
from lad_edge.outputs.mqtt import MqttOutput
from lad_edge.outputs.outbox import Limits, Outbox

pytestmark = needs_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as broker:
        yield broker


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    subscriber = Subscriber(broker.port)
    yield subscriber
    subscriber.stop()


def deliver(outbox: Outbox, address: str) -> Delivery:
    delivery = Delivery(outbox, MqttOutput(parse(address), ORIGIN), quiet)
    delivery.start()
    return delivery


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_records_arrive_in_order_once_and_are_not_retained(
    broker: Broker, subscriber: Subscriber, outbox: Outbox, protocol: str
) -> None:
    delivery = deliver(outbox, f"mqtt://127.0.0.1:{broker.port}/line3/{{camera}}?protocol={protocol}")
    fill(outbox, 1, 200)
    until(lambda: len(subscriber.records()) == 200)
    until(delivery.drained)
    assert [record["seq"] for record in subscriber.records()] == list(range(1, 201))
    assert {topic for topic, _, _ in subscriber.messages} == {"line3/camera0/result", "line3/camera0/state"}
    assert delivery.stop()
    until(lambda: subscriber.states() == ["online", "offline"])
    late = Subscriber(broker.port)
    until(lambda: late.messages == [("line3/camera0/state", "offline", True)])
    late.stop()


def test_whoever_tries_the_address_of_a_running_line_leaves_its_state_as_it_is(
    broker: Broker, subscriber: Subscriber, outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"mqtt://127.0.0.1:{broker.port}/line3"
    delivery = deliver(outbox, address)
    until(lambda: subscriber.states() == ["online"])
    assert main(["io", "test", address]) == 0
    until(lambda: [record["frame_id"] for record in subscriber.records()] == ["io-test"])
    assert subscriber.states() == ["online"]
    assert delivery.stop()
    assert f"{address} works" in capsys.readouterr().out


def test_a_frozen_broker_is_noticed_and_gets_everything_afterwards(
    broker: Broker, subscriber: Subscriber, outbox: Outbox
) -> None:
    delivery = deliver(outbox, f"mqtt://127.0.0.1:{broker.port}/x")
    fill(outbox, 1, 20)
    until(lambda: len(subscriber.seqs_once()) == 20)
    broker.freeze()
    fill(outbox, 21, 120)
    until(lambda: "SINK_BEHIND" in delivery.health().codes)
    assert delivery.health().backlog == 100
    broker.thaw()
    until(delivery.drained)
    until(lambda: len(subscriber.seqs_once()) == 120)
    assert subscriber.seqs_once() == list(range(1, 121))
    assert delivery.health().codes == ()
    assert delivery.stop()


def test_a_killed_broker_that_has_forgotten_everything_gets_what_it_missed(
    broker: Broker, subscriber: Subscriber, outbox: Outbox
) -> None:
    gate = Gate(broker.port)
    delivery = deliver(outbox, f"mqtt://127.0.0.1:{gate.port}/x")
    for cycle in range(3):
        fill(outbox, 40 * cycle + 1, 40 * cycle + 20)
        until(lambda last=40 * cycle + 20: len(subscriber.seqs_once()) == last)
        gate.shut()
        subscriber.subscribed.clear()
        broker.kill()
        fill(outbox, 40 * cycle + 21, 40 * cycle + 40)
        broker.start()
        assert subscriber.subscribed.wait(20)  # a broker without subscribers has nobody to give records to
        gate.open = True
    until(delivery.drained)
    until(lambda: len(subscriber.seqs_once()) == 120)
    assert subscriber.seqs_once() == list(range(1, 121))
    assert delivery.stop()
    gate.stop()


def test_what_dies_in_a_broker_after_it_was_acknowledged_comes_again(broker: Broker, outbox: Outbox) -> None:
    gate = Gate(broker.port)
    delivery = deliver(outbox, f"mqtt://127.0.0.1:{gate.port}/x")
    fill(outbox, 1, 20)
    until(delivery.drained)  # by a broker that has nobody to pass them on to
    gate.shut()
    broker.kill()
    broker.start()
    subscriber = Subscriber(broker.port)
    assert subscriber.subscribed.wait(20)
    gate.open = True
    until(lambda: len(subscriber.seqs_once()) == 20)
    fill(outbox, 21, 30)
    until(lambda: len(subscriber.seqs_once()) == 30)
    assert subscriber.seqs_once() == list(range(1, 31))
    assert delivery.stop()
    subscriber.stop()
    gate.stop()


def test_connections_cut_at_any_moment_lose_nothing_and_keep_the_order(
    broker: Broker, subscriber: Subscriber, outbox: Outbox
) -> None:
    gate, chance = Gate(broker.port), random.Random(3)
    delivery = deliver(outbox, f"mqtt://127.0.0.1:{gate.port}/x")
    for result in results(1, 3000):
        outbox.write(frame(), result)
        if result.seq % 300 == 0:
            time.sleep(chance.uniform(0.0, 0.1))
            gate.shut()
            gate.open = True
    until(lambda: outbox.flush(0.0) and delivery.drained())
    until(lambda: len(subscriber.seqs_once()) == 3000)
    assert subscriber.seqs_once() == list(range(1, 3001))
    assert delivery.health().failures > 0
    assert delivery.stop()
    gate.stop()


def test_the_next_start_goes_on_where_the_last_one_had_to_end(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    address = f"mqtt://127.0.0.1:{broker.port}/x"
    gate = Gate(broker.port)
    gate.shut()
    for boot_id, first, port in (("a", 1, gate.port), ("b", 11, gate.port)):
        outbox = open_outbox(tmp_path / "r.sqlite", boot_id)
        delivery = deliver(outbox, f"mqtt://127.0.0.1:{port}/x")
        fill(outbox, first, first + 9)
        until(lambda watched=delivery: watched.health().state == "broken")
        assert delivery.health().detail.startswith("the broker")
        assert delivery.stop()
        outbox.close()
    gate.open = True
    outbox = open_outbox(tmp_path / "r.sqlite", "c")
    delivery = deliver(outbox, f"mqtt://127.0.0.1:{gate.port}/x")
    until(lambda: subscriber.seqs_once() == list(range(1, 21)))
    fresh = deliver(outbox, address)  # another output: it begins with what comes now
    fill(outbox, 21, 22)
    until(lambda: delivery.drained() and fresh.drained())
    assert (delivery.health().delivered, fresh.health().delivered) == (22, 2)
    assert delivery.stop()
    assert fresh.stop()
    outbox.close()
    gate.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_that_lets_nobody_in_without_a_password_says_so(tmp_path: Path, outbox: Outbox, protocol: str) -> None:
    with running_broker(tmp_path, "allow_anonymous false") as broker:
        delivery = deliver(outbox, f"mqtt://127.0.0.1:{broker.port}/x?protocol={protocol}")
        until(lambda: delivery.health().failures)
        assert "Not authorized; check user and password" in delivery.health().detail
        assert delivery.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho drops a failed handshake unclosed
def test_tls_checks_the_broker_and_shows_our_certificate(tmp_path: Path, outbox: Outbox) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.issue_cert("box-1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "box.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    lines = [
        f"{name} {tmp_path / file}"
        for name, file in (("cafile", "ca.pem"), ("certfile", "server.pem"), ("keyfile", "server.pem"))
    ]
    with running_broker(tmp_path, *lines, "require_certificate true", "allow_anonymous true") as broker:
        address = f"mqtts://127.0.0.1:{broker.port}/x?cert={tmp_path / 'box.pem'}"
        delivery = deliver(outbox, f"{address}&ca={tmp_path / 'ca.pem'}")
        fill(outbox, 1, 30)
        until(delivery.drained)
        assert delivery.health().delivered == 30
        assert delivery.stop()
        cautious = MqttOutput(parse(f"{address}&ca={tmp_path / 'stranger.pem'}"), ORIGIN)
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            cautious.open()


def test_a_wrong_password_is_told_and_the_right_one_comes_from_a_file(tmp_path: Path, outbox: Outbox) -> None:
    assert MOSQUITTO is not None
    tool = (
        Path(MOSQUITTO).with_name("mosquitto_passwd")
        if Path(MOSQUITTO).with_name("mosquitto_passwd").exists()
        else "mosquitto_passwd"
    )
    subprocess.run([tool, "-b", "-c", tmp_path / "users", "box", "right"], check=True, capture_output=True)
    (tmp_path / "secret").write_text("right\n")
    (tmp_path / "secret").chmod(0o600)
    with running_broker(tmp_path, f"password_file {tmp_path / 'users'}", "allow_anonymous false") as broker:
        refused = deliver(outbox, f"mqtt://box:wrong@127.0.0.1:{broker.port}/x")
        until(lambda: "does not let us in" in refused.health().detail)
        assert "wrong" not in repr(refused.health()) + repr(refused.output._broker)
        assert refused.stop()
        welcome = deliver(outbox, f"mqtt://box@127.0.0.1:{broker.port}/y?password-file={tmp_path / 'secret'}")
        fill(outbox, 1, 3)
        until(welcome.drained)
        assert welcome.stop()


@pytest.mark.parametrize("path", ["a/+/b", "a/%23", "$SYS/x", "a/{part}", "a/{camera"])
def test_a_topic_that_means_something_else_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="topic"):
        MqttOutput(parse(f"mqtt://127.0.0.1/{path}"), ORIGIN)


def test_an_id_that_could_change_the_topic_is_replaced_by_its_hash(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    outbox = Outbox(tmp_path / "r.sqlite", replace(ORIGIN, camera_id="a/#"), quiet, Limits(reserve_bytes=0))
    delivery = deliver(outbox, f"mqtt://127.0.0.1:{broker.port}/{{camera}}")
    fill(outbox, 1, 1)
    until(lambda: len(subscriber.records()) == 1)
    topic = next(topic for topic, _, _ in subscriber.messages if topic.endswith("result"))
    assert len(topic) == 16 + len("/result")
    assert "#" not in topic
    assert delivery.stop()
    outbox.close()


def test_a_password_does_not_cross_a_network_in_plain_text_unless_somebody_says_so() -> None:
    with pytest.raises(UsageError, match="mqtts://"):
        MqttOutput(parse("mqtt://box:secret@10.0.0.7/x"), ORIGIN)
    MqttOutput(parse("mqtt://box:secret@10.0.0.7/x?allow-plain-password=yes"), ORIGIN)
