"""Records to an MQTT broker: QoS 1, each acknowledged by its PUBACK before the cursor moves (reliability.md F14, §6.4).

paho keeps what is unacknowledged in memory only, and takes `publish` calls for a broker that is long frozen. So the outbox
keeps the records, this thread drives the client itself, and after every failure a new client begins with the first record
that was not acknowledged. Before it, what was acknowledged last is published again: a broker that is killed takes with it
what it had not passed on yet. Receivers know a record that comes twice by its key.

Topics: PATH/result, never retained, and PATH/state, retained: `online`, or `offline` by the last will.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from lad_edge.errors import UsageError
from lad_edge.outputs.delivery import DeliveryError
from lad_edge.outputs.tls import tls_context
from lad_edge.stream.broker import ANSWER_S, PORTS, PROTOCOLS, Broker, paho
from lad_edge.stream.records import Origin, safe_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lad_edge.outputs.address import Address
    from lad_edge.outputs.ledger import Stored

_DEFAULT_PATH = "lad-edge/{device}/{camera}"
_KEEPALIVE_S = 5  # a frozen broker is noticed after about twice that, where nothing is to deliver
_POLL_S = 0.05
_SESSION_S = 3600
_DOUBTED_S, _DOUBTED = (
    2.0,
    1000,
)  # before the newest PUBACK, and at most so many records: they may have died with the broker
_FORBIDDEN = frozenset("+#\0")


class MqttOutput:
    """An output (delivery.py). PATH may name {device} and {camera}, which are filled in for each record."""

    slowest_retry_s = 2.0

    def __init__(self, address: Address, origin: Origin) -> None:
        """Raises UsageError."""
        self._path = address.path or _DEFAULT_PATH
        _check(self._path)
        self.name = address.name
        self._origin = origin
        self._broker = broker_of(address, f"lad-edge-{origin.device_id}-{origin.camera_id}")
        self._client: paho.Client | None = None
        self._acknowledged: set[int] = set()
        self._newest: deque[tuple[float, Stored]] = deque(maxlen=_DOUBTED)  # when they were acknowledged
        self._problem = self._refusal = ""  # what is wrong now, and what the broker itself said of it

    def open(self) -> None:
        """Connects with the last will, and says that it is online. Raises DeliveryError."""
        client, self._client = self._new_client(), None
        self._problem, self._refusal = "no answer", ""
        try:
            client.connect(self._broker.host, self._broker.port, _KEEPALIVE_S, **self._broker.session(_SESSION_S))
        except (OSError, ValueError) as exc:  # ValueError: a host that is no host name
            raise DeliveryError(f"the broker cannot be reached: {exc}") from exc
        self._client = client
        self._drive(lambda: not self._problem, time.monotonic() + ANSWER_S)
        if self._problem:
            raise self._failure(f"the broker does not let us in: {self._problem}")
        self._publish(self._state("online"))
        self._publish([self._message(record) for record in self._doubted()])

    def deliver(self, records: Sequence[Stored]) -> None:
        """Publishes all and waits for their PUBACKs. Raises DeliveryError."""
        try:
            self._publish([self._message(record) for record in records])
        except DeliveryError as exc:
            self._remember(records[: exc.acknowledged])
            raise
        self._remember(records)

    def idle(self) -> None:
        """Keeps the connection alive. Raises DeliveryError when it is gone."""
        self._drive(lambda: True, 0.0)
        if self._problem:
            raise self._failure(self._problem)

    def close(self) -> None:
        """Says that it is offline and takes leave, unless the connection failed: then the broker says it."""
        client, self._client = self._client, None
        if client is None:
            return
        if not self._problem:
            for topic, text, keep in self._state("offline"):
                client.publish(topic, text, qos=1, retain=keep)
            client.disconnect()
            client.loop(_POLL_S)
        if (connection := client.socket()) is not None:
            connection.close()

    def _publish(self, messages: Sequence[tuple[str, str, bool]]) -> None:
        """Returns when the broker has acknowledged all. Raises DeliveryError with how many it has, in order."""
        assert self._client is not None  # noqa: S101 - open() comes first
        self._acknowledged.clear()
        sent = [self._client.publish(topic, text.encode(), qos=1, retain=keep).mid for topic, text, keep in messages]
        done = 0
        while done < len(sent) and not self._problem:
            before, limit_s = done, time.monotonic() + ANSWER_S
            self._drive(partial(self._has_acknowledged, sent[done]), limit_s)
            while done < len(sent) and sent[done] in self._acknowledged:
                done += 1
            if done == before and not self._problem:
                self._problem = f"no PUBACK within {ANSWER_S:g} s"
        if done < len(sent):
            raise self._failure(self._problem, done)

    def _has_acknowledged(self, mid: int) -> bool:
        return mid in self._acknowledged

    def _drive(self, done: Callable[[], bool], limit_s: float) -> None:
        """Reads and writes until it is done, late or the connection is gone; at least once."""
        assert self._client is not None  # noqa: S101 - open() comes first
        while True:
            status = self._client.loop(_POLL_S if limit_s else 0.0)
            if status != paho.MQTT_ERR_SUCCESS:
                gone = f"the connection is gone ({paho.error_string(status).rstrip('.').lower()})"
                self._problem = self._refusal or gone
                return
            if done() or time.monotonic() > limit_s:
                return

    def _failure(self, message: str, acknowledged: int = 0) -> DeliveryError:
        self._problem = message
        return DeliveryError(message, acknowledged)

    def _new_client(self) -> paho.Client:
        client = self._broker.client()
        client.on_connect, client.on_publish = self._on_connect, self._on_publish
        for topic, text, keep in self._state("offline"):
            client.will_set(topic, text, qos=1, retain=keep)
        return client

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        self._problem = self._refusal = f"{reason}; check user and password" if reason.is_failure else ""

    def _on_publish(self, _client: object, _data: object, mid: int, reason: Any, _properties: object) -> None:
        if reason.is_failure:
            self._problem = f"the broker refuses a record: {reason}; check its access rules and quota"
        else:
            self._acknowledged.add(mid)

    def _remember(self, records: Sequence[Stored]) -> None:
        now_s = time.monotonic()
        self._newest.extend((now_s, record) for record in records)

    def _doubted(self) -> list[Stored]:
        """What the broker acknowledged shortly before the connection ended; nothing before the first one."""
        since_s = self._newest[-1][0] - _DOUBTED_S if self._newest else 0.0
        return [record for at_s, record in self._newest if at_s >= since_s]

    def _message(self, record: Stored) -> tuple[str, str, bool]:
        path = self._filled(record.record["device_id"], record.record["camera_id"])
        return f"{path}/result", record.line, False

    def _state(self, text: str) -> list[tuple[str, str, bool]]:
        """What it says of itself, as messages."""
        return [(f"{self._filled(self._origin.device_id, self._origin.camera_id)}/state", text, True)]

    def _filled(self, device_id: str, camera_id: str) -> str:
        return self._path.replace("{device}", safe_id(device_id)).replace("{camera}", safe_id(camera_id))


class MqttGuest(MqttOutput):
    """Delivers to the topics of a line that may be running: what that line says of itself stays."""

    def _state(self, text: str) -> list[tuple[str, str, bool]]:  # noqa: ARG002 - it has none
        return []


def broker_of(address: Address, client_id: str = "") -> Broker:
    """Of `mqtt://` and `mqtts://`. client_id: when the address names none. Raises UsageError."""
    password = address.secret("password-file") or address.password
    plain = address.scheme == "mqtt" and not address.loopback
    if password and plain and address.choice("allow-plain-password", "no", "yes") == "no":
        raise UsageError(
            f"{address.name}: the password would cross the network in plain text; use mqtts://, or say allow-plain-password=yes"
        )
    return Broker(
        host=address.host,
        port=address.port or PORTS[address.scheme],
        client_id=address.options.get("client-id", client_id),
        protocol=address.choice("protocol", *PROTOCOLS),
        user=address.user,
        password=password,
        tls=tls_context(address) if address.scheme == "mqtts" else None,
    )


def _check(path: str) -> None:
    rest = path.replace("{device}", "").replace("{camera}", "")
    if _FORBIDDEN & set(rest) or "{" in rest or "}" in rest or path.startswith("$"):
        raise UsageError(
            f"the MQTT topic '{path}' may name {{device}} and {{camera}}, and holds no + # $ or other braces"
        )
