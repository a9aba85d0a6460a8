"""A handshake as an OPC UA server: read-only nodes, the methods Trigger and Acknowledge, and an event for each result.

All nodes are in the namespace urn:lad-edge:station under Objects/Station; their ids are strings, such as s=Station.Ready. Verdict is Bad
while no result is shown and Uncertain while it is UNKNOWN, so that no PLC reads a good value that is stale (reliability.md §6.4).

Options of the address: users=FILE (NAME:PASSWORD lines; then signed and encrypted only), keys=FOLDER (of the station's certificate, made
at the first start), trust=FOLDER (client certificates; without it any valid one).
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from lad_edge.errors import MissingDependencyError, UsageError
from lad_edge.plc.codes import REASON_CODES
from lad_edge.plc.handshake import HEARTBEAT_S, NO_SCORE
from lad_edge.plc.serving import LoopThread
from lad_edge.values import Verdict

try:
    from asyncua import Server, ua, uamethod
    from asyncua.common.connection import TransportLimits
except ModuleNotFoundError as exc:
    raise MissingDependencyError("opcua:// needs asyncua; pip install 'lad-edge[opcua]'") from exc

from lad_edge.plc.opcua_security import APPLICATION_URI, Users, read_users, secure, silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.plc.handshake import Handshake, Outputs
    from lad_edge.plc.uri import PlcAddress

STATION = "Station"
_START_S, _STOP_S = 60.0, 2.0  # a small machine builds the standard nodes for a while
_MOST_BYTES, _CHUNK_BYTES = 1 << 20, 65535
_MOST_CLIENTS = 32
_SESSION_MS = 30_000.0  # of silence: a client that has gone does not keep its place (requirements.md R66)
_ACTIVATION_S = 5.0
_REASONS = {code: reason.value for reason, code in REASON_CODES.items()} | {0: ""}
_TYPES = {
    bool: ua.VariantType.Boolean,
    int: ua.VariantType.UInt32,
    float: ua.VariantType.Double,
    str: ua.VariantType.String,
}
_VERDICT_STATUS = {
    None: ua.StatusCodes.BadWaitingForInitialData,
    Verdict.OK: ua.StatusCodes.Good,
    Verdict.NG: ua.StatusCodes.Good,
    Verdict.UNKNOWN: ua.StatusCodes.Uncertain,
}
_EVENT_FIELDS = ("Verdict", "Sequence", "ReasonCode", "PartId")


class OpcUaServer:
    """A bus (station.py)."""

    def __init__(
        self, address: PlcAddress, notice: Callable[[str], None], handshake: Handshake, beat: Callable[[], None]
    ) -> None:
        """notice: takes a warning for a person. beat: called every HEARTBEAT_S. Raises UsageError when it cannot be served."""
        self.handshake = handshake
        self._address, self._users = address, read_users(address)
        self._written: dict[str, ua.DataValue] = {}
        self._announced = 0
        self._publishing = self._again = False
        silence()  # what a client does wrong, it is told itself
        self._thread = LoopThread("opcua")
        with ExitStack() as if_it_fails:
            if_it_fails.callback(self._thread.close)
            try:
                _try_to_listen(address.host, address.port)
                self._thread.run(self._open(), _START_S)
            except OSError as exc:
                raise UsageError(f"{address}: {exc.strerror}; choose another address or port") from exc
            if_it_fails.pop_all()
        if not address.loopback:
            notice(f"{address}: signed and encrypted, for {len(self._users)} user(s)")
        self.port: int = self._server.bserver.port
        self._beat = beat
        self._thread.every(HEARTBEAT_S, self._tick)

    def publish(self) -> None:
        """Writes what has changed, soon, on the server's own thread."""
        self._thread.soon(self._publish_soon)

    def close(self) -> None:
        """Ends all sessions."""
        with suppress(TimeoutError):
            self._thread.run(self._stop(), _STOP_S)
        self._thread.close()

    async def _open(self) -> None:
        server = self._server = Server(user_manager=Users(self._users))
        await server.init()
        await server.set_application_uri(APPLICATION_URI)
        server.set_server_name("lad-edge station")
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        server.set_endpoint(f"opc.tcp://{host}:{self._address.port}/")
        self._limit(server)
        await secure(server, self._address, self._users)
        await self._add_nodes(server)
        await server.start()

    def _tick(self) -> None:
        """Cuts off clients that announce a message without end: asyncua looks at its limits when it has collected all of it."""
        self._beat()
        for client in list(self._server.bserver.clients):
            if len(client._buffer) > _MOST_BYTES:
                client.transport.abort()

    async def _stop(self) -> None:
        clock, self._server.iserver.time_task = self._server.iserver.time_task, None
        clock.cancel()  # asyncua would wait for its next second
        await self._server.stop()

    def _limit(self, server: Server) -> None:
        server.limits = TransportLimits(_CHUNK_BYTES, _CHUNK_BYTES, _MOST_BYTES // _CHUNK_BYTES + 1, _MOST_BYTES)
        inner = server.iserver
        inner.allow_remote_admin = False
        inner.max_connections = inner.max_subscriptions = _MOST_CLIENTS
        inner.max_session_timeout_ms = _SESSION_MS
        inner.max_pending_activation_seconds = _ACTIVATION_S

    async def _add_nodes(self, server: Server) -> None:
        self._space = await server.register_namespace(APPLICATION_URI)
        station = await server.nodes.objects.add_object(self._id(""), self._name(STATION))
        for name, value in self._values(self.handshake.outputs).items():
            node = await station.add_variable(
                self._id(name), self._name(name), value.Value.Value, value.Value.VariantType
            )
            await server.write_attribute_value(node.nodeid, value)
            self._written[name] = value
        await station.add_method(
            self._id("Trigger"),
            self._name("Trigger"),
            uamethod(self._trigger),
            [ua.VariantType.String],
            [ua.VariantType.Boolean],
        )
        await station.add_method(
            self._id("Acknowledge"), self._name("Acknowledge"), uamethod(self._acknowledge), [], []
        )
        fields = [(name, _TYPES[str if name in ("Verdict", "PartId") else int]) for name in _EVENT_FIELDS]
        kind = await server.create_custom_event_type(self._space, "PartResult", ua.ObjectIds.BaseEventType, fields)
        self._event = await server.get_event_generator(kind, station)

    def _id(self, name: str) -> ua.NodeId:
        return ua.NodeId(f"{STATION}.{name}" if name else STATION, self._space)

    def _name(self, name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, self._space)

    def _trigger(self, _parent: ua.NodeId, part_id: str | None) -> bool:
        """part_id: A-Z a-z 0-9 . _ - (64 at most), or empty. True when the trigger was taken; else ErrorCode says why not."""
        return self.handshake.trigger(part_id or "")

    def _acknowledge(self, _parent: ua.NodeId) -> None:
        self.handshake.acknowledge()

    def _publish_soon(self) -> None:
        """One after the other: the nodes never go back to an older moment."""
        self._again = True
        if not self._publishing:
            self._publishing = True
            self._task = self._thread.loop.create_task(self._publish())

    async def _publish(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._write(self.handshake.outputs)
        finally:
            self._publishing = False

    async def _write(self, outputs: Outputs) -> None:
        for name, value in self._values(outputs).items():
            if value != self._written[name]:
                self._written[name] = value
                await self._server.write_attribute_value(self._id(name), value)
        if outputs.verdict is not None and outputs.sequence != self._announced:
            self._announced = outputs.sequence
            await self._announce(outputs)
            self.handshake.told(outputs.sequence)

    async def _announce(self, outputs: Outputs) -> None:
        event = self._event.event
        event.Verdict, event.Sequence = outputs.verdict.value if outputs.verdict else "", outputs.sequence
        event.ReasonCode, event.PartId = outputs.reason, outputs.part_id
        await self._event.trigger(message=f"part {outputs.sequence}: {event.Verdict}")

    def _values(self, outputs: Outputs) -> dict[str, ua.DataValue]:
        """Every node's value; those that say nothing now are Bad."""
        shown = outputs.verdict is not None
        scored = outputs.score_milli != NO_SCORE
        score = _value(
            outputs.score_milli / 1000.0 if scored else 0.0, ua.StatusCodes.Good if scored else ua.StatusCodes.BadNoData
        )
        verdict = _value(outputs.verdict.value if outputs.verdict else "", _VERDICT_STATUS[outputs.verdict])
        numbers: dict[str, Any] = {
            "HeartbeatCount": outputs.heartbeat,
            "Sequence": outputs.sequence,
            "ReasonCode": outputs.reason,
            "Reason": _REASONS[outputs.reason],
            "ErrorCode": int(outputs.error),
            "PartId": outputs.part_id if shown else "",
            "Triggers": outputs.triggers,
            "Refused": outputs.refused,
            "OkParts": outputs.ok_parts,
            "NgParts": outputs.ng_parts,
            "UnknownParts": outputs.unknown_parts,
        }
        bits = {_camel(name): bit for name, bit in outputs.bits.items()}
        values = {name: _value(value) for name, value in (bits | numbers).items()}
        return {**values, "Score": score, "Verdict": verdict}  # the verdict last: all that belongs to it is there


def _try_to_listen(host: str, port: int) -> None:
    """A port that is taken is told at once, not after the seconds in which asyncua builds its nodes. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host, port))


def _value(value: bool | float | str, status: int = ua.StatusCodes.Good) -> ua.DataValue:
    return ua.DataValue(ua.Variant(value, _TYPES[type(value)]), ua.StatusCode(status))


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
