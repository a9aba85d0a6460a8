"""A handshake as a Modbus TCP server; the register map stands in registers.py.

pymodbus decodes requests and encodes answers. The connections are served here: one request after the other, so that none is lost when a
client sends several at once, with limits on clients, on their silence and on what they leave unread.

One PLC writes at a time: another one has DEVICE_BUSY until the first has gone or has said nothing for two seconds. All may read. The
levels that were written last stay when a connection ends, so that a PLC which comes back and repeats its TRIGGER makes no second part.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from lad_edge.errors import MissingDependencyError, UsageError
from lad_edge.plc.handshake import HEARTBEAT_S
from lad_edge.plc.registers import (
    ACK_BIT,
    HOLDING,
    HOLDING_WORDS,
    INPUT_WORDS,
    SIGNALS,
    TRIGGER_BIT,
    input_words,
    text_of,
)
from lad_edge.plc.serving import LoopThread

try:
    from pymodbus.constants import ExcCodes
    from pymodbus.pdu import DecodePDU, ExceptionResponse
except ModuleNotFoundError as exc:
    raise MissingDependencyError("modbus:// needs pymodbus; pip install 'lad-edge[modbus]'") from exc

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.plc.handshake import Handshake
    from lad_edge.plc.uri import PlcAddress

_HEADER = struct.Struct(">HHHB")  # MBAP: transaction, protocol 0, bytes that follow, unit
_MOST_BYTES = 254  # unit and PDU
_MOST_CLIENTS = 32
_IDLE_S = 30.0
_OWNER_S = 2.0  # of silence, after which another PLC may write
_UNREAD_BYTES = 65536
_START_S = 5.0
_READ_DISCRETE, _READ_HOLDING, _READ_INPUT, _MASK_WRITE, _READ_WRITE = 2, 3, 4, 22, 23
_FUNCTIONS = frozenset({_READ_DISCRETE, _READ_HOLDING, _READ_INPUT, 6, 16, _MASK_WRITE, _READ_WRITE})
_ANY_UNIT = frozenset({0, 255})  # what PLCs put in where TCP needs no unit
_PART_ID = next(register.address for register in HOLDING if register.name == "PART_ID")


class ModbusServer:
    """A bus (station.py) for any number of readers and one writer."""

    def __init__(self, address: PlcAddress, handshake: Handshake, beat: Callable[[], None]) -> None:
        """beat: called every HEARTBEAT_S. Raises UsageError when the address cannot be served."""
        self.handshake = handshake
        self.holding = [0] * HOLDING_WORDS
        self.refused_clients = 0
        self._address, self._beat = address, beat
        self._owner: _Client | None = None
        self._clients: set[_Client] = set()
        self._decoder = DecodePDU(True)
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # a request that cannot be decoded is answered as such
        self._thread = LoopThread("modbus")
        try:
            self._server = self._thread.run(asyncio.start_server(self._serve, address.host, address.port), _START_S)
        except OSError as exc:
            self._thread.close()
            raise UsageError(f"{address}: {_advice(exc, address.port)}") from exc
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread.every(HEARTBEAT_S, self._tick)

    def publish(self) -> None:
        """Clients ask; nothing has to be sent."""

    def close(self) -> None:
        """Closes all connections."""
        with suppress(TimeoutError):
            self._thread.run(self._close(), _START_S)
        self._thread.close()

    def may_write(self, client: _Client) -> bool:
        """True for the PLC that has written last, and for another one when that has gone or is silent."""
        owner = self._owner
        if owner is None or owner is client or owner not in self._clients or owner.silent_s > _OWNER_S:
            self._owner = client
        return self._owner is client

    def apply(self, holding: list[int]) -> None:
        """Takes over what a PLC has written."""
        self.holding = holding
        control, counter = holding[0], holding[1]
        part_id = text_of(holding[_PART_ID:])
        self.handshake.set_levels(
            trigger=bool(control & TRIGGER_BIT), ack=bool(control & ACK_BIT), counter=counter, part_id=part_id
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(self, writer)
        try:
            if not self._welcome(writer):
                self.refused_clients += 1
                return
            self._clients.add(client)
            writer.transport.set_write_buffer_limits(_UNREAD_BYTES)
            while True:
                writer.write(await self._answer(client, *await _request(reader)))
                await writer.drain()
        except (OSError, EOFError, ValueError):  # gone, or no Modbus
            return
        finally:
            self._clients.discard(client)
            writer.transport.abort()

    def _welcome(self, writer: asyncio.StreamWriter) -> bool:
        peer = ipaddress.ip_address(writer.get_extra_info("peername")[0])
        return len(self._clients) < _MOST_CLIENTS and self._address.allows(peer)

    async def _answer(self, client: _Client, transaction: int, unit: int, pdu: bytes) -> bytes:
        client.heard_s = time.monotonic()
        answer = await self._response(client, unit, pdu)
        body: bytes = bytes((answer.function_code,)) + answer.encode()
        return _HEADER.pack(transaction, 0, 1 + len(body), unit) + body

    async def _response(self, client: _Client, unit: int, pdu: bytes) -> Any:
        function = pdu[0]
        if unit not in _ANY_UNIT | {self._address.unit}:
            return ExceptionResponse(function, ExcCodes.GATEWAY_NO_RESPONSE)
        if function not in _FUNCTIONS:
            return ExceptionResponse(function & 0x7F, ExcCodes.ILLEGAL_FUNCTION)
        request = self._decoder.decode(pdu)
        if request is None:
            return ExceptionResponse(function, ExcCodes.ILLEGAL_VALUE)
        return await request.datastore_update(cast("Any", client), unit)

    def _tick(self) -> None:
        self._beat()
        for client in [client for client in self._clients if client.silent_s > _IDLE_S]:
            client.leave()

    async def _close(self) -> None:
        self._server.close()
        for client in list(self._clients):
            client.leave()


class _Client:
    """The data of a request, as pymodbus asks for them."""

    def __init__(self, server: ModbusServer, writer: asyncio.StreamWriter) -> None:
        self.server, self.heard_s = server, time.monotonic()
        self._writer = writer

    @property
    def silent_s(self) -> float:
        """Since its last request."""
        return time.monotonic() - self.heard_s

    def leave(self) -> None:
        """Ends its connection."""
        self._writer.transport.abort()

    async def async_getValues(  # noqa: N802 - pymodbus' name
        self, _unit: int, function: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        """The values, all of one moment."""
        if function == _READ_DISCRETE:
            bits = list(self.server.handshake.outputs.bits.values())
            return bits[address : address + count] if address + count <= len(SIGNALS) else ExcCodes.ILLEGAL_ADDRESS
        words, known = self.server.holding, HOLDING_WORDS
        if function == _READ_INPUT:
            words, known = input_words(self.server.handshake.outputs), INPUT_WORDS
        return words[address : address + count] if address + count <= known else ExcCodes.ILLEGAL_ADDRESS

    async def async_setValues(  # noqa: N802 - pymodbus' name
        self, _unit: int, _function: int, address: int, values: list[int]
    ) -> ExcCodes | None:
        """Writes to the holding registers, and acts."""
        if address + len(values) > HOLDING_WORDS:
            return ExcCodes.ILLEGAL_ADDRESS
        if not self.server.may_write(self):
            return ExcCodes.DEVICE_BUSY
        holding = self.server.holding
        self.server.apply([*holding[:address], *values, *holding[address + len(values) :]])
        return None


def _advice(exc: OSError, port: int) -> str:
    if isinstance(exc, PermissionError):
        allowed = f"sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
        return f"ports below 1024 are for root; choose another one, such as 1502, or let everybody have it: {allowed}"
    return f"{exc.strerror}; choose another address or port"


async def _request(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """Transaction, unit and PDU. Raises ValueError for what is no Modbus TCP."""
    transaction, protocol, length, unit = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if protocol != 0 or not 2 <= length <= _MOST_BYTES:
        raise ValueError(f"protocol {protocol} with {length} bytes is no Modbus TCP")
    return transaction, unit, await reader.readexactly(length - 1)
