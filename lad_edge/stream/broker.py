"""How an MQTT broker is reached goes in; clients of paho that are not yet connected come out, for results and for triggers alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lad_edge.errors import MissingDependencyError

try:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ModuleNotFoundError as exc:
    raise MissingDependencyError("mqtt:// needs paho-mqtt; pip install 'lad-edge[mqtt]'") from exc

if TYPE_CHECKING:
    import ssl

__all__ = ["ANSWER_S", "PORTS", "PROTOCOLS", "Broker", "paho"]

PROTOCOLS = {"5": paho.MQTTv5, "3.1.1": paho.MQTTv311}
PORTS = {"mqtt": 1883, "mqtts": 8883}
ANSWER_S = 5.0  # that a broker may take for each answer


@dataclass(frozen=True)
class Broker:
    """client_id: "" = the broker's choice. protocol: of PROTOCOLS."""

    host: str
    port: int
    client_id: str = ""
    protocol: str = "5"
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    def client(self) -> paho.Client:
        """A new one: after a failure the old one is of no use (reliability.md §6.4)."""
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=PROTOCOLS[self.protocol],
            clean_session=None if self.protocol == "5" else True,
        )
        client.connect_timeout = ANSWER_S
        if self.user:
            client.username_pw_set(self.user, self.password or None)
        if self.tls is not None:
            client.tls_set_context(self.tls)
        return client

    def session(self, kept_s: int) -> dict[str, Any]:
        """Words for `connect`: the broker keeps the session for so long. MQTT 3.1.1 cannot say that."""
        if self.protocol != "5":
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = kept_s
        return {"clean_start": False, "properties": properties}
