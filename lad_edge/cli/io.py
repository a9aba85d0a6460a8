"""lad-edge io: what connects a line with its machine, tried from the other side: a PLC that counts, an address, a diagram."""

from __future__ import annotations

import argparse
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from lad_edge.cli.arguments import add_json, duration_ms, positive_duration_ms, positive_int, print_json
from lad_edge.errors import SinkError, UsageError
from lad_edge.stream.records import Origin, safe_id, to_json_line
from lad_edge.values import Reason, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lad_edge.plc.uri import PlcAddress
    from lad_edge.plc.witness import Account

_EPILOG = """\
examples:
  lad-edge io list
  lad-edge io diagram --map
  lad-edge io test modbus://10.0.7.20:502
  lad-edge io test mqtts://broker/line3?ca=ca.pem
  lad-edge io fake-plc modbus://127.0.0.1:1502 --parts 100 --interval 50ms

The line is on the other side: lad-edge run --engine part.lad --camera 0 --plc modbus://127.0.0.1:1502
"""

_BEATS_S = 0.6  # two heartbeats
_TEST_RESULT = Result(1, "io-test", Verdict.UNKNOWN, (Reason.STARTING,), 0, 0, detail="a test of lad-edge io, no part")
_BUSES = {  # scheme → (module that it needs, extra, what it is)
    "modbus": ("pymodbus", "modbus", "Modbus TCP server: the handshake as registers"),
    "opcua": ("asyncua", "opcua", "OPC UA server: the handshake as nodes, methods and events"),
}


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "io",
        help="try PLCs and outputs: a fake PLC, a test of an address, the handshake's timing",
        description="Tries what connects a line with its machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tools = parser.add_subparsers(dest="tool", metavar="TOOL", required=True)
    _add_list(tools)
    _add_test(tools)
    _add_fake_plc(tools)
    _add_diagram(tools)


def _add_list(tools: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = tools.add_parser("list", help="the addresses that --plc takes, and what is installed")
    add_json(parser, "the same as JSON")
    parser.set_defaults(func=list_buses)


def _add_test(tools: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = tools.add_parser(
        "test",
        help="connect to a line as its PLC does, or to an output as the line does",
        description="A line: one value is written and read, the heartbeat watched. An output: it gets one record, UNKNOWN, of io-test.",
    )
    parser.add_argument(
        "uri", metavar="URI", help="modbus://HOST:PORT, opcua://HOST:PORT, or an output: mqtt://…, https://…"
    )
    add_json(parser, "what was found as JSON")
    parser.set_defaults(func=test)


def _add_fake_plc(tools: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = tools.add_parser(
        "fake-plc",
        help="trigger parts as a PLC, check each step of the handshake, compare both counts",
        description="An independent witness. Exit code 0: every step was right and both sides count the same; 2: they do not.",
    )
    parser.add_argument("uri", metavar="URI", help="modbus://HOST:PORT, without options but ?unit=N")
    parser.add_argument("--parts", type=positive_int, default=100, metavar="N", help="default: 100")
    parser.add_argument(
        "--interval", type=duration_ms, default=0.0, metavar="TIME", help="pause after each; default: 0"
    )
    parser.add_argument(
        "--timeout",
        type=positive_duration_ms,
        default=5e3,
        metavar="TIME",
        help="for READY and for a result; default: 5s",
    )
    add_json(parser, "its account as JSON")
    parser.set_defaults(func=fake_plc)


def _add_diagram(tools: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = tools.add_parser("diagram", help="the timing diagram of the handshake, and the register map")
    parser.add_argument("--map", action="store_true", help="the register map of Modbus instead")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the diagram as a picture")
    parser.set_defaults(func=diagram)


def list_buses(args: argparse.Namespace) -> int:
    """Prints what --plc takes."""
    buses = [
        {"scheme": scheme, "meaning": meaning, "extra": extra, "installed": find_spec(module) is not None}
        for scheme, (module, extra, meaning) in _BUSES.items()
    ]
    if args.json:
        print_json({"plc": buses})
        return 0
    for bus in buses:
        remedy = "installed" if bus["installed"] else f"pip install 'lad-edge[{bus['extra']}]'"
        print(f"--plc {bus['scheme']}://HOST:PORT   {bus['meaning']}   ({remedy})")
    return 0


def diagram(args: argparse.Namespace) -> int:
    """Prints the diagram or the map, or writes the picture."""
    from lad_edge.plc.diagram import as_svg, as_text, moments
    from lad_edge.plc.registers import map_lines

    if args.svg:
        try:
            args.svg.write_text(as_svg(moments()), encoding="utf-8")
        except OSError as exc:
            raise SinkError(f"{args.svg} cannot be written: {exc.strerror}; choose another --svg") from exc
    if args.map or not args.svg:
        print("\n".join(map_lines() if args.map else as_text(moments())))
    return 0


def test(args: argparse.Namespace) -> int:
    """Connects once; the error of one that is not there says so."""
    name, found = _try_plc(args.uri) if args.uri.partition(":")[0] in _BUSES else _try_output(args.uri)
    if args.json:
        print_json({"address": name, **found})
    else:
        print(f"{name} works: {', '.join(f'{what} {value}' for what, value in found.items())}")
    return 0


def fake_plc(args: argparse.Namespace) -> int:
    """Plays the PLC; 2 when anything was not as it must be."""
    from lad_edge.plc.modbus_client import ModbusClient
    from lad_edge.plc.witness import Witness

    address = _address(args.uri)
    if address.scheme != "modbus":
        raise UsageError(f"io fake-plc speaks Modbus alone: modbus://HOST:PORT; came '{args.uri}'")
    with ModbusClient(address.host, address.port, address.unit) as client:
        witness = Witness(client, args.timeout / 1e3)
        account = witness.run(args.parts, lambda: args.interval / 1e3)
    if args.json:
        print_json(account.to_json())
    else:
        print("\n".join(_account_lines(account)))
    return 0 if account.clean else 2


def _address(uri: str) -> PlcAddress:
    from lad_edge.plc.uri import parse

    return parse(uri, option="URI")


def _try_plc(uri: str) -> tuple[str, dict[str, object]]:
    address = _address(uri)
    return str(address), dict(_try_modbus(address) if address.scheme == "modbus" else _try_opcua(address))


def _try_output(uri: str) -> tuple[str, dict[str, object]]:
    """Delivers one record. Raises UsageError, SinkError."""
    from lad_edge.outputs.address import NETWORK, parse
    from lad_edge.outputs.ledger import Stored
    from lad_edge.outputs.opening import GUESTS

    address = parse(uri)
    if address.scheme not in NETWORK:
        raise UsageError(f"io test tries {', '.join((*_BUSES, *sorted(NETWORK)))}; files need no test: came '{uri}'")
    origin = Origin(safe_id(socket.gethostname()), "io-test", uuid4().hex)
    output = GUESTS[address.scheme](address.filled(origin), origin)
    start_s = time.perf_counter()
    try:
        output.open()
        output.deliver([Stored(1, to_json_line(_TEST_RESULT, origin).rstrip("\n"), 0.0)])
    except SinkError as exc:
        raise SinkError(f"{address.name}: {exc}") from exc
    finally:
        output.close()
    return address.name, {"acknowledged_ms": round((time.perf_counter() - start_s) * 1e3, 2)}


def _try_modbus(address: PlcAddress) -> Iterator[tuple[str, object]]:
    """Writes one value, reads it back and puts the old one back; looks whether the heartbeat moves."""
    from lad_edge.plc.modbus_client import ModbusClient
    from lad_edge.plc.registers import HOLDING, INPUT_WORDS
    from lad_edge.plc.witness import decode

    register = next(register.address for register in HOLDING if register.name == "TEST")
    with ModbusClient(address.host, address.port, address.unit) as client:
        (before,) = client.holding_registers(register, 1)
        start_s = time.perf_counter()
        client.write(register, [before ^ 0xFFFF])
        (read,) = client.holding_registers(register, 1)
        took_ms = (time.perf_counter() - start_s) * 1e3
        client.write(register, [before])
        if read != before ^ 0xFFFF:
            raise SinkError(f"{address}: {before ^ 0xFFFF} was written and {read} read; is this lad-edge?")
        first = decode(client.input_registers(0, INPUT_WORDS))
        time.sleep(_BEATS_S)
        last = decode(client.input_registers(0, INPUT_WORDS))
    yield "write_and_read_ms", round(took_ms, 2)
    yield "heartbeat", "moves" if last["HEARTBEAT_COUNT"] != first["HEARTBEAT_COUNT"] else "stands still"
    yield "ready", last["READY"]
    yield "map_version", last["MAP_VERSION"]


def _try_opcua(address: PlcAddress) -> Iterator[tuple[str, object]]:
    from lad_edge.plc.opcua_client import examine

    yield from examine(address, _BEATS_S).items()


def _account_lines(account: Account) -> Iterator[str]:
    told = account.to_json()
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in account.verdicts.items())
    yield f"{account.triggers} triggers: {verdicts}, {account.unanswered} without a result"
    yield f"the line counts {account.line}"
    for name, title in (("trigger_to_result_ms", "TRIGGER to RESULT_VALID"), ("ack_to_release_ms", "ACK to its fall")):
        yield f"{title}: " + ", ".join(f"{rank} {value} ms" for rank, value in told[name].items())
    yield f"longest time between two heartbeats: {account.longest_beat_s:.2f} s"
    yield from (f"  WRONG  {violation}" for violation in account.violations)
    yield (
        "every step was right, both sides count the same" if account.clean else "the handshake or the counts were wrong"
    )
