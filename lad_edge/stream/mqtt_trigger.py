"""Line software asks for a part by MQTT: a message {"part_id": "tray-17"} on a topic, or an empty one. Its record goes where --out says.

A message counts at the moment that it comes: none is taken that the broker kept from before (retained, or of an earlier session), for
its part is long gone. The same name twice is one part: QoS 1 delivers at least once. While the broker is gone no part can be asked for;
the trigger says so, and connects again for ever.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from lad_edge.stream.broker import Broker, paho
from lad_edge.stream.part_ids import EXPECTED, MOST_BYTES, part_id_of
from lad_edge.stream.triggers import OnDemand

if TYPE_CHECKING:
    from lad_edge.stream.parts import Parts

_KEEPALIVE_S = 3  # a frozen broker is noticed after about twice that
_POLL_S = 0.1
_RETRY_S = 0.5
_JOIN_S = 0.5
_NAMES = 4096  # of parts that were asked for lately


class MqttTrigger(OnDemand):
    """A part for each message. repeated: messages that named a part which was asked for already; refused: those that are no trigger."""

    def __init__(self, parts: Parts, broker: Broker, topic: str, pictures: int = 1) -> None:
        """topic: without wildcards."""
        super().__init__(parts, pictures)
        self.broker, self.topic = broker, topic
        self.repeated = self.refused = 0
        self.trouble, self._refusal = "it is not connected yet", ""
        self._names: OrderedDict[str, None] = OrderedDict()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mqtt-trigger", daemon=True)

    def start(self) -> None:
        """Messages are taken from now on."""
        super().start()
        self._thread.start()

    def close(self) -> None:
        """No message is taken any more."""
        self._stopping.set()
        super().close()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)  # it may hang in a connection, and is left behind

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (OSError, ValueError) as exc:  # ValueError: a host that is no host name
                self.trouble = f"the broker cannot be reached: {exc}"
            self._stopping.wait(_RETRY_S)

    def _listen(self) -> None:
        """Until the connection is gone, or the line ends. Raises OSError, ValueError."""
        client, self._refusal = self.broker.client(), ""
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_message = self._on_message
        client.connect(self.broker.host, self.broker.port, _KEEPALIVE_S)
        while not self._stopping.is_set():
            status = client.loop(_POLL_S)
            if status != paho.MQTT_ERR_SUCCESS:
                self.trouble = self._refusal or f"the broker is gone ({paho.error_string(status).rstrip('.').lower()})"
                return
        client.disconnect()

    def _on_connect(self, client: paho.Client, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        if reason.is_failure:
            self.trouble = self._refusal = f"the broker does not let us in: {reason}; check user and password"
        else:
            client.subscribe(self.topic, qos=1)

    def _on_subscribe(self, _client: object, _data: object, _mid: int, reasons: list[Any], _properties: object) -> None:
        failed = [reason for reason in reasons if reason.is_failure]
        self.trouble = f"the broker refuses the topic: {failed[0]}; check its access rules" if failed else ""

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        part_id = part_id_of(bytes(message.payload)) if len(message.payload) <= MOST_BYTES else None
        if message.retain or part_id is None:
            self._refuse("it was kept from before (retained)" if message.retain else EXPECTED)
        elif part_id and part_id in self._names:
            self.repeated += 1
        else:
            self._remember(part_id)
            self.fire(part_id)

    def _remember(self, part_id: str) -> None:
        self._names[part_id] = None
        if len(self._names) > _NAMES:
            self._names.popitem(last=False)

    def _refuse(self, why: str) -> None:
        self.refused += 1
        if self.refused == 1:
            self.notice(f"a message on {self.topic} is no trigger: {why}; others like it are counted")
