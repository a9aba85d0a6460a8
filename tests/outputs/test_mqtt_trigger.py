"""Parts asked for over a real mosquitto: one message, one part; what is old, repeated or no trigger is none; the broker may come and go."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from broker import Broker, free_port, needs_broker, running_broker
from outbox_samples import WAIT_S
from paho.mqtt.enums import CallbackAPIVersion
from scripted import CollectingSink, ScriptedSource, frame
from tiny import good_picture
from waiting import until

from lad_edge.inspector import Inspector, Options
from lad_edge.stream.broker import Broker as Address
from lad_edge.stream.health import Health
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.mqtt_trigger import MqttTrigger
from lad_edge.stream.watchdog import Beats
from lad_edge.values import Frame, Reason

pytestmark = needs_broker
TOPIC = "line3/trigger"


class Running:
    """A line that is triggered through this port, and the names of the parts that it judged."""

    def __init__(self, inspector: Inspector, port: int, protocol: str) -> None:
        self.end, self.sink, self.notices = threading.Event(), CollectingSink(), list[str]()
        options = LineOptions(
            trigger=lambda parts: MqttTrigger(parts, Address("127.0.0.1", port, protocol=protocol), TOPIC),
            stop=self.end.is_set,
            notice=self.notices.append,
        )
        self.health = Health(Beats(), tuple, self.notices.append)
        self.line = Line(ScriptedSource(self._pictures(), live=True), inspector, [self.sink], options)
        self.health._line = self.line
        assert isinstance(self.line.trigger, MqttTrigger)
        self.trigger = self.line.trigger

    @property
    def names(self) -> list[str]:
        return [result.part_id for result in self.sink.results]

    def codes(self) -> tuple[str, ...]:
        self.health.look()
        return self.health.codes

    def listens(self) -> bool:
        return not self.trigger.trouble

    def _pictures(self) -> Iterator[Frame]:
        while not self.end.is_set():
            time.sleep(0.002)
            yield frame(good_picture(0))


@contextmanager
def line(inspector: Inspector, port: int, protocol: str = "5") -> Iterator[Running]:
    running = Running(inspector, port, protocol)
    thread = threading.Thread(target=running.line.run)
    thread.start()
    try:
        yield running
    finally:
        running.end.set()
        thread.join(WAIT_S)
    assert not thread.is_alive()


@contextmanager
def asking(port: int) -> Iterator[Callable[..., None]]:
    """ask(payload, **words of paho's publish): returns when the broker has the message."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()

    def ask(payload: str, **words: object) -> None:
        client.publish(TOPIC, payload, qos=1, **words).wait_for_publish(WAIT_S)  # type: ignore[arg-type]

    yield ask
    client.disconnect()
    client.loop_stop()


def named(name: str) -> str:
    return json.dumps({"part_id": name})


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as running:
        yield running


@pytest.fixture
def inspector(open_inspector: Callable[..., Inspector]) -> Inspector:
    return open_inspector(Options(maps_for=frozenset()))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_each_message_is_a_part_and_the_same_name_twice_is_one(
    inspector: Inspector, broker: Broker, protocol: str
) -> None:
    with line(inspector, broker.port, protocol) as running, asking(broker.port) as ask:
        until(running.listens)
        for payload in ("", named("a"), named("b"), named("a"), "", named("c")):
            ask(payload)
        until(lambda: len(running.names) == 5)
    assert running.names == ["", "a", "b", "", "c"]
    assert (running.trigger.repeated, running.line.parts.triggered) == (1, 5)


def test_what_is_no_trigger_is_no_part_and_said_once(inspector: Inspector, broker: Broker) -> None:
    with line(inspector, broker.port) as running, asking(broker.port) as ask:
        until(running.listens)
        for payload in ("{", named("a/../b"), json.dumps({"part_id": 7}), "x" * 5000):
            ask(payload)
        ask(named("good"))
        until(lambda: running.names == ["good"])
    assert running.trigger.refused == 4
    assert [text for text in running.notices if "is no trigger" in text][1:] == []


def test_what_the_broker_kept_from_before_is_no_part(inspector: Inspector, broker: Broker) -> None:
    """Its part is long gone: a picture of now would be taken for it."""
    with asking(broker.port) as ask:
        ask(named("kept"), retain=True)
        with line(inspector, broker.port) as running:
            until(running.listens)
            ask(named("now"))
            until(lambda: running.names == ["now"])
    assert running.trigger.refused == 1


def test_a_broker_that_goes_is_seen_in_health_and_listened_to_again_when_it_is_back(
    inspector: Inspector, broker: Broker
) -> None:
    with line(inspector, broker.port) as running:
        until(running.listens)
        assert running.codes() == ()
        broker.kill()
        until(lambda: running.codes() == (Reason.TRIGGER_LOST.value,))
        assert not running.health.ready
        broker.start()
        until(running.listens)
        assert running.codes() == ()
        with asking(broker.port) as ask:
            ask(named("after"))
        until(lambda: running.names == ["after"])


def test_a_broker_that_lets_nobody_in_without_a_password_says_so(inspector: Inspector, tmp_path: Path) -> None:
    with running_broker(tmp_path, "allow_anonymous false") as closed, line(inspector, closed.port) as running:
        until(lambda: "Not authorized; check user and password" in running.trigger.trouble)
        assert running.codes() == (Reason.TRIGGER_LOST.value,)


def test_a_line_starts_and_ends_without_its_broker(inspector: Inspector) -> None:
    with line(inspector, free_port()) as running:
        until(lambda: "cannot be reached" in running.trigger.trouble)
    assert running.names == []
