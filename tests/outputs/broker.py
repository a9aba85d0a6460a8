"""mosquitto as a process of the test, a subscriber that keeps what it hears, and a gate on the way to the broker."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from waiting import until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="needs the broker mosquitto (Debian package of that name)")


class Broker:
    """`lines`: of its configuration, after the listener on a free port of this machine."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        said = [f"listener {self.port} 127.0.0.1", "persistence false", "user root"]
        self.config.write_text("\n".join([*said, *(lines or ["allow_anonymous true"]), ""]))
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self.config)], stderr=subprocess.DEVNULL)
        until(self._answers)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Without persistence nothing of it is left afterwards."""
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True
        return False


class Subscriber:
    """Keeps (topic, text, retained) of all messages; after a broken connection it subscribes again."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, str, bool]] = []
        self.subscribed = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _client, _data, message: self.messages.append(
            (message.topic, message.payload.decode(), message.retain)
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.subscribed.wait(10)

    def records(self) -> list[dict[str, object]]:
        return [json.loads(text) for topic, text, _ in self.messages if topic.endswith("/result")]

    def seqs_once(self) -> list[object]:
        """In order of their first arrival, each key once."""
        return [seq for _, seq in dict.fromkeys((record["boot_id"], record["seq"]) for record in self.records())]

    def states(self) -> list[str]:
        return [text for topic, text, _ in self.messages if topic.endswith("/state")]

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Gate:
    """A port that leads to another one while it is open; shutting it cuts every connection."""

    def __init__(self, target: int) -> None:
        self.target, self.open = target, True
        self._pipes: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def shut(self) -> None:
        self.open = False
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.shutdown(socket.SHUT_RDWR)
        self._pipes.clear()

    def stop(self) -> None:
        self.shut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._lead(near)

    def _lead(self, near: socket.socket) -> None:
        if not self.open:
            near.close()
            return
        far = socket.create_connection(("127.0.0.1", self.target))
        self._pipes += [near, far]
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running_broker(folder: Path, *lines: str) -> Iterator[Broker]:
    broker = Broker(folder, *lines)
    try:
        yield broker
    finally:
        broker.process.kill()
        broker.process.wait()
