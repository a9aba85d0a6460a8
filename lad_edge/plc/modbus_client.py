"""A small Modbus TCP client over a plain socket: what a PLC does, without any line of the server's code or of its library."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from lad_edge.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

_HEADER = struct.Struct(">HHHB")
_READ_DISCRETE, _READ_HOLDING, _READ_INPUT, _WRITE = 2, 3, 4, 16
_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    6: "busy: another PLC writes",
    11: "no such unit",
}


class ModbusError(SinkError):
    """The server refuses a request or is gone. code: of Modbus, 0 = none came."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class ModbusClient:
    """One connection. Every call waits for its answer, up to the time-out, and raises ModbusError."""

    def __init__(self, host: str, port: int, unit: int = 1, timeout_s: float = 2.0) -> None:
        self._where, self._unit, self._transaction = f"modbus://{host}:{port}", unit, 0
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as exc:
            raise ModbusError(f"{self._where}: cannot connect ({exc}); is the line running with --plc?") from exc
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def input_registers(self, address: int, count: int) -> tuple[int, ...]:
        """(count,) values of 16 bits."""
        return self._registers(_READ_INPUT, address, count)

    def holding_registers(self, address: int, count: int) -> tuple[int, ...]:
        """(count,) values of 16 bits."""
        return self._registers(_READ_HOLDING, address, count)

    def discrete_inputs(self, address: int, count: int) -> tuple[bool, ...]:
        """(count,) bits."""
        data = self._ask(struct.pack(">BHH", _READ_DISCRETE, address, count))
        return tuple(bool(data[1 + i // 8] >> (i % 8) & 1) for i in range(count))

    def write(self, address: int, values: Sequence[int]) -> None:
        """Into holding registers, in one request."""
        head = struct.pack(">BHHB", _WRITE, address, len(values), 2 * len(values))
        self._ask(head + struct.pack(f">{len(values)}H", *values))

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _registers(self, function: int, address: int, count: int) -> tuple[int, ...]:
        data = self._ask(struct.pack(">BHH", function, address, count))
        return struct.unpack(f">{count}H", data[1 : 1 + 2 * count])

    def _ask(self, pdu: bytes) -> bytes:
        """The data of the answer, behind its function code."""
        self._transaction = (self._transaction + 1) & 0xFFFF
        try:
            self._socket.sendall(_HEADER.pack(self._transaction, 0, 1 + len(pdu), self._unit) + pdu)
            transaction, _, length, _ = _HEADER.unpack(self._receive(_HEADER.size))
            answer = self._receive(length - 1)
        except OSError as exc:
            raise ModbusError(f"{self._where}: no answer ({exc})") from exc
        if transaction != self._transaction:
            raise ModbusError(f"{self._where}: answered request {transaction} instead of {self._transaction}")
        if answer[0] != pdu[0]:
            raise ModbusError(f"{self._where}: {_EXCEPTIONS.get(answer[1], f'exception {answer[1]}')}", answer[1])
        return answer[1:]

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionResetError("the server has closed the connection")
            data += piece
        return data
