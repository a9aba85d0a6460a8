"""PLCs: triggers come in over Modbus TCP or OPC UA, and results go out, by the handshake of a vision sensor."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lad_edge.errors import UsageError
from lad_edge.plc import uri as uris

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lad_edge.plc.handshake import Handshake
    from lad_edge.plc.station import Bus, Display, Plc
    from lad_edge.plc.uri import PlcAddress
    from lad_edge.stream.watchdog import Beats

    OpenBus = Callable[[Handshake, Callable[[], None]], Bus]


def check(texts: Sequence[str]) -> None:
    """What --plc names, the first of which triggers the line; no port is opened. Raises UsageError and MissingDependencyError."""
    for number, text in enumerate(texts):
        address = uris.parse(text)
        if address.scheme == "opcua":
            from lad_edge.plc.opcua_security import check_access

            check_access(address)
        else:
            from lad_edge.plc import modbus  # noqa: F401 - that it can be imported is what is asked

            _check_triggers(address, first=not number)


def open_plc(uri: str, beats: Beats, notice: Callable[[str], None]) -> Plc:
    """Serves `modbus://…` or `opcua://…` from now on: the trigger and a sink of one line (station.py), not READY before it runs.

    beats: of the stages of the line; notice: takes a warning for a person. Raises UsageError and MissingDependencyError.
    """
    from lad_edge.plc.station import Plc

    address = uris.parse(uri)
    if address.scheme == "modbus":
        return Plc(_modbus(address, notice), beats)
    return Plc(_opcua(address, notice), beats)


def open_display(uri: str, beats: Beats, notice: Callable[[str], None]) -> Display:
    """Serves `opcua://…` to clients that only look, while another PLC triggers; as `open_plc` else."""
    from lad_edge.plc.station import Display

    address = uris.parse(uri)
    _check_triggers(address, first=False)
    return Display(_opcua(address, notice), beats)


def _check_triggers(address: PlcAddress, *, first: bool) -> None:
    if address.scheme != "opcua" and not first:
        raise UsageError(
            f"--plc {address}: the first --plc triggers the line, others show its results: opcua://HOST:PORT"
        )


def _modbus(address: PlcAddress, notice: Callable[[str], None]) -> OpenBus:
    from lad_edge.plc.modbus import ModbusServer

    if not address.loopback:
        served = ", ".join(map(str, address.allow)) or "everybody; limit it with ?allow=10.0.7.0/24"
        notice(f"{address}: Modbus knows no passwords and no encryption; it serves {served}")
    return partial(ModbusServer, address)


def _opcua(address: PlcAddress, notice: Callable[[str], None]) -> OpenBus:
    from lad_edge.plc.opcua import OpcUaServer

    return partial(OpcUaServer, address, notice)
