"""A line, its Modbus server and PLCs on loopback; whatever a PLC does, each trigger has one verdict and no OK is stale."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymodbus.client import ModbusTcpClient
from scripted import lost
from stations import Station, station
from waiting import until

from lad_edge.errors import UsageError
from lad_edge.inspector import Inspector, Options
from lad_edge.plc import modbus, open_plc
from lad_edge.plc.modbus_client import ModbusClient, ModbusError
from lad_edge.plc.registers import ACK_BIT, HOLDING_WORDS, INPUT_WORDS, SIGNALS, TRIGGER_BIT, words_of
from lad_edge.plc.witness import Witness, decode
from lad_edge.stream.loop import LineOptions
from lad_edge.stream.watchdog import Beats

CONTROL, COUNTER, PART_ID = 0, 1, 3
NOBODY = 65534
LOWEST_PORT = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())  # of those without rights


@pytest.fixture
def running(open_inspector: Callable[..., Inspector]) -> Iterator[Station]:
    with station(open_inspector(Options())) as opened:
        yield opened


@pytest.fixture
def client(running: Station) -> Iterator[ModbusClient]:
    with connect(running) as connected:
        yield connected


def connect(running: Station) -> ModbusClient:
    return ModbusClient("127.0.0.1", running.plc.port)


def look(client: ModbusClient) -> dict[str, object]:
    return decode(client.input_registers(0, INPUT_WORDS))


def wait_until(client: ModbusClient, signal: str, value: object = True) -> dict[str, object]:
    until(lambda: look(client)[signal] == value)
    return look(client)


def test_500_triggers_at_random_intervals_are_counted_alike_on_both_sides(
    running: Station, client: ModbusClient
) -> None:
    chance = random.Random(7)
    account = Witness(client, timeout_s=10.0).run(500, lambda: chance.expovariate(200.0))
    assert account.violations == []
    assert account.triggers == 500 == len(running.records.results)
    assert account.verdicts == {verdict: running.verdicts.count(verdict) for verdict in ("OK", "NG", "UNKNOWN")}
    assert account.verdicts["OK"] > 0
    assert account.verdicts["NG"] > 0
    assert [result.part_id for result in running.records.results] == [f"part-{i}" for i in range(1, 501)]


def test_a_plc_that_never_acknowledges_never_sees_an_old_result(running: Station, client: ModbusClient) -> None:
    for number in range(1, 21):
        client.write(CONTROL, [TRIGGER_BIT])
        seen = wait_until(client, "RESULT_VALID")
        assert seen["SEQUENCE"] == number
        client.write(CONTROL, [0])
    assert look(client)["TRIGGERS"] == 20 == len(running.records.results)


def test_a_trigger_while_busy_has_a_record_and_an_answer(running: Station, client: ModbusClient) -> None:
    running.hold.set()
    client.write(CONTROL, [TRIGGER_BIT, 0, 0, *words_of("first")])
    client.write(CONTROL, [0])
    client.write(CONTROL, [TRIGGER_BIT, 0, 0, *words_of("second")])
    seen = look(client)
    assert (seen["BUSY"], seen["ERROR"], seen["ERROR_CODE"], seen["REFUSED"]) == (True, True, 1, 1)
    running.hold.clear()
    wait_until(client, "BUSY", False)
    assert not look(client)["RESULT_VALID"]
    client.write(CONTROL, [ACK_BIT])
    client.write(CONTROL, [0])
    first = wait_until(client, "RESULT_VALID")
    assert (first["PART_ID_ECHO"], first["OK"] or first["NG"]) == ("first", True)
    client.write(CONTROL, [ACK_BIT])
    client.write(CONTROL, [0])
    second = wait_until(client, "RESULT_VALID")
    assert (second["PART_ID_ECHO"], second["UNKNOWN"], second["ERROR"]) == ("second", True, False)
    assert [result.reasons[0].value for result in running.records.results][1:] == ["CAMERA_BUSY"]


def test_a_plc_that_disconnects_and_repeats_its_trigger_makes_no_second_part(running: Station) -> None:
    with connect(running) as before:
        before.write(CONTROL, [TRIGGER_BIT])
    with connect(running) as after:
        after.write(CONTROL, [TRIGGER_BIT])
        seen = wait_until(after, "RESULT_VALID")
        assert (seen["TRIGGERS"], seen["SEQUENCE"]) == (1, 1)
        after.write(CONTROL, [0])
        assert Witness(after).run(5, lambda: 0.0).clean


def test_of_two_plcs_one_writes_and_both_read(running: Station, client: ModbusClient) -> None:
    client.write(CONTROL, [0])
    with connect(running) as other:
        with pytest.raises(ModbusError, match="another PLC writes"):
            other.write(CONTROL, [TRIGGER_BIT])
        client.write(CONTROL, [TRIGGER_BIT])
        assert wait_until(other, "RESULT_VALID")["TRIGGERS"] == 1
    client.close()
    with connect(running) as successor:
        until(lambda: accepted(successor, CONTROL, [ACK_BIT]))
        assert not look(successor)["RESULT_VALID"]


def test_a_plc_that_has_fallen_silent_makes_room(
    running: Station, client: ModbusClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.write(CONTROL, [0])
    monkeypatch.setattr(modbus, "_OWNER_S", 0.1)
    with connect(running) as successor:
        until(lambda: accepted(successor, CONTROL, [0]))
        with pytest.raises(ModbusError, match="another PLC writes"):
            client.write(CONTROL, [TRIGGER_BIT])


def test_a_connection_that_says_nothing_is_closed(running: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modbus, "_IDLE_S", 0.1)
    with socket.create_connection(("127.0.0.1", running.plc.port), 5.0) as silent:
        assert silent.recv(1) == b""


def accepted(client: ModbusClient, address: int, values: list[int]) -> bool:
    try:
        client.write(address, values)
    except ModbusError:
        return False
    return True


def test_pymodbus_own_client_agrees(running: Station) -> None:
    with ModbusTcpClient("127.0.0.1", port=running.plc.port) as plc:
        assert plc.read_discrete_inputs(0, count=len(SIGNALS)).bits[:6] == [True, False, False, False, False, False]
        plc.write_registers(PART_ID, words_of("x.1"))
        plc.write_register(CONTROL, TRIGGER_BIT)
        until(lambda: plc.read_discrete_inputs(2, count=1).bits[0])
        echo = plc.read_input_registers(20, count=16)
        assert echo.registers == words_of("x.1")
        plc.mask_write_register(address=CONTROL, and_mask=0xFFFF ^ ACK_BIT, or_mask=ACK_BIT)
        assert not plc.read_discrete_inputs(2, count=1).bits[0]
        assert plc.readwrite_registers(
            read_address=COUNTER, read_count=1, write_address=CONTROL, values=[0, 1]
        ).registers == [1]
        until(lambda: plc.read_discrete_inputs(2, count=1).bits[0])


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (struct.pack(">BHH", 4, INPUT_WORDS, 1), 2),
        (struct.pack(">BHH", 4, 0, INPUT_WORDS + 1), 2),
        (struct.pack(">BHH", 4, 0, 0), 3),
        (struct.pack(">BHH", 2, len(SIGNALS), 1), 2),
        (struct.pack(">BHHBH", 16, HOLDING_WORDS, 1, 2, 7), 2),
        (struct.pack(">BHHBH", 16, 0, 2, 2, 7), 3),
        (struct.pack(">BHH", 5, 0, 0xFF00), 1),
        (b"\x2b\x0e\x01\x00", 1),
        (b"\x04", 3),
    ],
)
def test_a_wrong_request_is_answered_as_such(client: ModbusClient, pdu: bytes, code: int) -> None:
    with pytest.raises(ModbusError) as refused:
        client._ask(pdu)
    assert refused.value.code == code
    assert look(client)["READY"]


def test_another_unit_is_told_apart(running: Station) -> None:
    with ModbusClient("127.0.0.1", running.plc.port, unit=9) as other, pytest.raises(ModbusError, match="no such unit"):
        look(other)


def test_requests_that_come_at_once_are_answered_in_order(running: Station) -> None:
    ask = struct.Struct(">HHHBBHH")
    with socket.create_connection(("127.0.0.1", running.plc.port), 5.0) as raw:
        raw.sendall(
            ask.pack(1, 0, 6, 1, 6, CONTROL, TRIGGER_BIT)
            + ask.pack(2, 0, 6, 1, 6, CONTROL, 0)
            + ask.pack(3, 0, 6, 1, 4, 8, 2)
        )
        answers = b""
        while len(answers) < 12 + 12 + 13:
            answers += raw.recv(100)
    assert [answers[0:2], answers[12:14], answers[24:26]] == [b"\0\1", b"\0\2", b"\0\3"]
    assert answers[33:37] == b"\0\0\0\1"


def test_what_is_no_modbus_ends_its_own_connection_alone(running: Station, client: ModbusClient) -> None:
    with socket.create_connection(("127.0.0.1", running.plc.port), 5.0) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert raw.recv(100) == b""
    assert look(client)["READY"]


def test_clients_that_read_nothing_do_not_delay_a_verdict(running: Station, client: ModbusClient) -> None:
    lazy = [socket.create_connection(("127.0.0.1", running.plc.port), 5.0) for _ in range(20)]
    flood = struct.pack(">HHHBBHH", 1, 0, 6, 1, 4, 0, INPUT_WORDS) * 2000
    for one in lazy:
        one.setblocking(False)
        one.send(flood)
    assert Witness(client, timeout_s=10.0).run(20, lambda: 0.0).clean
    for one in lazy:
        one.close()


def test_more_clients_than_the_limit_are_turned_away(running: Station, client: ModbusClient) -> None:
    look(client)
    crowd = [socket.create_connection(("127.0.0.1", running.plc.port), 5.0) for _ in range(40)]
    assert crowd[-1].recv(1) == b""
    assert look(client)["READY"]
    for one in crowd:
        one.close()


def test_only_allowed_networks_are_served(open_inspector: Callable[..., Inspector]) -> None:
    with (
        station(open_inspector(Options()), "modbus://127.0.0.1:0?allow=10.0.7.0/24") as closed,
        connect(closed) as stranger,
        pytest.raises(ModbusError, match="no answer"),
    ):
        look(stranger)


def test_an_address_for_everybody_is_warned_of() -> None:
    notices: list[str] = []
    open_plc("modbus://0.0.0.0:0", Beats(), notices.append).close()
    assert "knows no passwords" in notices[0]
    assert "?allow=" in notices[0]


def test_the_heartbeat_stops_when_the_line_hangs(running: Station, client: ModbusClient) -> None:
    first = look(client)["HEARTBEAT_COUNT"]
    until(lambda: look(client)["HEARTBEAT_COUNT"] != first)
    running.hold.set()
    client.write(CONTROL, [TRIGGER_BIT])
    until(lambda: running.beats.stuck() == ["line"])
    time.sleep(0.3)  # a beat may be under way
    stood = look(client)["HEARTBEAT_COUNT"]
    time.sleep(0.6)
    assert look(client)["HEARTBEAT_COUNT"] == stood
    running.hold.clear()
    until(lambda: look(client)["HEARTBEAT_COUNT"] != stood)


def test_a_hanging_engine_is_unknown_at_its_deadline(open_inspector: Callable[..., Inspector]) -> None:
    with station(open_inspector(Options()), options=LineOptions(deadline_ms=50.0)) as late, connect(late) as client:
        late.hold.set()
        client.write(CONTROL, [TRIGGER_BIT])
        seen = wait_until(client, "RESULT_VALID")
        assert (seen["UNKNOWN"], seen["REASON"]) == (True, 43)
        late.hold.clear()
        client.write(CONTROL, [ACK_BIT])
        client.write(CONTROL, [0])
        assert Witness(client).run(3, lambda: 0.0).triggers == 3
        assert late.line.stats.late.total() == 1


def test_a_lost_camera_is_unknown_with_its_reason(open_inspector: Callable[..., Inspector]) -> None:
    with station(open_inspector(Options()), camera=lost) as dark, connect(dark) as client:
        client.write(CONTROL, [TRIGGER_BIT])
        assert wait_until(client, "RESULT_VALID")["REASON"] == 60


def test_a_line_that_ends_is_not_ready_and_its_heartbeat_stands(running: Station, client: ModbusClient) -> None:
    running.stopping.set()
    wait_until(client, "READY", False)
    stood = look(client)["HEARTBEAT_COUNT"]
    client.write(CONTROL, [TRIGGER_BIT])
    time.sleep(0.6)
    seen = look(client)
    assert (seen["ERROR_CODE"], seen["HEARTBEAT_COUNT"]) == (2, stood)


def test_the_witness_finds_a_line_that_miscounts(running: Station, client: ModbusClient) -> None:
    witness = Witness(client)
    extra = threading.Timer(0.1, running.plc.handshake.trigger)
    extra.start()
    account = witness.run(2, lambda: 0.3)
    assert not account.clean
    assert any("triggers: the PLC counts 2, the line 3" in violation for violation in account.violations)


def test_the_witness_finds_a_heartbeat_that_stands_once_the_line_was_ready(
    running: Station, client: ModbusClient
) -> None:
    def stop() -> float:
        running.plc.stop()
        return 0.0

    account = Witness(client, timeout_s=1.5).run(2, stop)
    assert any("the heartbeat stood still" in violation for violation in account.violations)
    assert account.unanswered == 1
    account = Witness(client, timeout_s=1.5).run(1, lambda: 0.0)  # it may still be starting
    assert account.violations == ["part-1: no READY within 1.5 s"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s7://127.0.0.1", "--plc takes modbus://"),
        ("modbus://line-pc:502", "an address in numbers"),
        ("modbus://127.0.0.1:99999", "expected modbus://"),
        ("modbus://127.0.0.1?alow=10.0.0.0/8", "did you mean allow"),
        ("modbus://127.0.0.1?unit=300", "from 1 to 247"),
        ("modbus://127.0.0.1?allow=ten", "allow=10.0.7.0/24"),
        ("modbus://me@127.0.0.1", "--plc takes modbus://"),
    ],
)
def test_a_wrong_address_says_what_is_expected(uri: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_plc(uri, Beats(), print)
    assert message in str(refused.value)


def test_a_port_in_use_is_named(running: Station) -> None:
    with pytest.raises(UsageError, match="choose another address or port"):
        open_plc(f"modbus://127.0.0.1:{running.plc.port}", Beats(), print)


@pytest.fixture
def no_root() -> Iterator[None]:
    """As somebody who may not take a port below 1024."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    yield
    if os.getuid() == 0:
        os.seteuid(0)


@pytest.mark.skipif(LOWEST_PORT <= 502, reason="this kernel gives port 502 to everybody")
@pytest.mark.usefixtures("no_root")
def test_the_port_of_modbus_is_for_root_and_the_error_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"such as 1502, or let everybody have it: sysctl -w .*=502"):
        open_plc("modbus://127.0.0.1", Beats(), print)
