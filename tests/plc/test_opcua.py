"""A line, its OPC UA server and clients on loopback: read, triggered by method, told by events, closed to strangers."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from scripted import frame
from stations import WAIT_S, Station, station
from waiting import until

from lad_edge import bundle as bundles
from lad_edge.errors import SinkError, UsageError
from lad_edge.inspector import Inspector, Options
from lad_edge.plc import check, open_display, open_plc
from lad_edge.plc.opcua_client import connect, examine
from lad_edge.plc.opcua_security import APPLICATION_URI, own_certificate
from lad_edge.plc.uri import parse
from lad_edge.stream.watchdog import Beats
from lad_edge.values import Reason, Result, Verdict

LOOPBACK = "opcua://127.0.0.1:0"


@pytest.fixture(scope="module")
def shared(tiny_bundle: Path) -> Iterator[Station]:
    """One for all: asyncua builds its standard nodes for seconds."""
    with Inspector(bundles.read(tiny_bundle), Options()) as inspector, station(inspector, LOOPBACK) as opened:
        yield opened


@pytest.fixture
def running(shared: Station) -> Iterator[Station]:
    """Without what the test before has left."""
    yield shared
    shared.hold.clear()
    until(lambda: shared.plc.handshake.outputs.ready)
    for _ in range(3):
        shared.plc.handshake.acknowledge()


def with_client(port: int, use: Callable[[Plant], Coroutine[Any, Any, None]], options: str = "") -> None:
    async def connected() -> None:
        async with await connect(parse(f"opcua://127.0.0.1:{port}{options}")) as client:
            await use(Plant(client, await client.get_namespace_index(APPLICATION_URI)))

    asyncio.run(asyncio.wait_for(connected(), WAIT_S))


class Plant:
    """The nodes of a station, from the client's side."""

    def __init__(self, client: Client, space: int) -> None:
        self.client, self.space = client, space

    def node(self, name: str) -> Any:
        return self.client.get_node(ua.NodeId(f"Station.{name}" if name else "Station", self.space))

    async def read(self, name: str) -> Any:
        return (await self.node(name).read_data_value(raise_on_bad_status=False)).Value.Value

    async def status(self, name: str) -> int:
        return int((await self.node(name).read_data_value(raise_on_bad_status=False)).StatusCode.value)

    async def call(self, method: str, *words: object) -> Any:
        return await self.node("").call_method(f"{self.space}:{method}", *words)

    async def until(self, name: str, value: object) -> None:
        while await self.read(name) != value:
            await asyncio.sleep(0.005)

    async def subscribe(self, seen: list[tuple[str, int]]) -> None:
        """Keeps (verdict, sequence) of each event from now on."""

        class Listener:
            def event_notification(self, event: Any) -> None:
                seen.append((event.Verdict, event.Sequence))

        kind = await self.client.nodes.base_event_type.get_child(f"{self.space}:PartResult")
        await (await self.client.create_subscription(20, Listener())).subscribe_events(self.node(""), kind)


def test_a_part_is_triggered_shown_and_acknowledged(running: Station) -> None:
    async def use(plant: Plant) -> None:
        assert await plant.read("Ready")
        assert await plant.status("Verdict") == ua.StatusCodes.BadWaitingForInitialData
        assert await plant.call("Trigger", "tray-17")
        await plant.until("ResultValid", True)
        await plant.until("PartId", "tray-17")
        assert await plant.read("Verdict") in ("OK", "NG")
        assert await plant.status("Verdict") == ua.StatusCodes.Good
        assert await plant.read("Sequence") == running.records.results[-1].seq
        await plant.call("Acknowledge")
        await plant.until("ResultValid", False)
        await plant.until("Verdict", None)
        assert await plant.status("Verdict") == ua.StatusCodes.BadWaitingForInitialData

    with_client(running.plc.port, use)
    assert running.records.results[-1].part_id == "tray-17"


def test_the_page_names_each_node_and_each_method(running: Station) -> None:
    page = (Path(__file__).parents[2] / "docs" / "outputs" / "opcua.md").read_text()
    cells = re.findall(r"^\| (`[A-Z][^|]*)\|", page.partition("## Nodes")[2].partition("## When")[0], re.MULTILINE)
    shown: set[str] = set()

    async def use(plant: Plant) -> None:
        shown.update([(await child.read_browse_name()).Name for child in await plant.node("").get_children()])

    with_client(running.plc.port, use)
    assert set(re.findall(r"`([A-Za-z]+)", " ".join(cells))) == shown


def test_a_trigger_while_busy_is_refused_counted_and_uncertain(running: Station) -> None:
    async def use(plant: Plant) -> None:
        running.hold.set()
        assert await plant.call("Trigger", "first")
        assert not await plant.call("Trigger", "second")
        await plant.until("ErrorCode", 1)
        running.hold.clear()
        await plant.until("Busy", False)
        assert not await plant.read("ResultValid")
        await plant.call("Acknowledge")
        await plant.until("PartId", "first")
        await plant.call("Acknowledge")
        await plant.until("Verdict", "UNKNOWN")
        assert await plant.status("Verdict") == ua.StatusCodes.Uncertain
        assert await plant.status("Score") == ua.StatusCodes.BadNoData
        assert await plant.read("Reason") == "CAMERA_BUSY"
        assert await plant.read("PartId") == "second"
        assert await plant.read("Triggers") == before + 2

    before = running.line.parts.triggered
    with_client(running.plc.port, use)
    assert running.verdicts[-1] == "UNKNOWN"


def test_each_result_is_an_event(running: Station) -> None:
    seen: list[tuple[str, int]] = []

    async def use(plant: Plant) -> None:
        await plant.subscribe(seen)
        for number in range(1, 6):
            assert await plant.call("Trigger", f"part-{number}")
            await plant.until("PartId", f"part-{number}")
        while len(seen) < 5:
            await asyncio.sleep(0.01)

    before = len(running.records.results)
    with_client(running.plc.port, use)
    assert seen == [(result.verdict.value, result.seq) for result in running.records.results[before:]]


def test_who_only_looks_is_told_of_every_result_and_triggers_nothing() -> None:
    seen: list[tuple[str, int]] = []
    beats = Beats()
    display = open_display(LOOPBACK, beats, print)

    async def use(plant: Plant) -> None:
        await plant.subscribe(seen)
        for number in range(1, 41):
            display.write(frame(None), Result(number, "", Verdict.OK, (Reason.SCORE_WITHIN_LIMIT,), 0, 0))
        while len(seen) < 40:
            await asyncio.sleep(0.01)
        assert not await plant.call("Trigger", "mine")
        assert [await plant.read(name) for name in ("OkParts", "Sequence", "Ready")] == [40, 40, False]
        assert await plant.read("HeartbeatCount") == 0
        beats.beat("line")
        await plant.until("HeartbeatCount", 1)

    try:
        with_client(display.port, use)
    finally:
        display.close()
    assert seen == [("OK", number) for number in range(1, 41)]


def test_one_plc_triggers_and_the_others_look() -> None:
    with pytest.raises(UsageError, match="the first --plc triggers"):
        open_display("modbus://127.0.0.1:0", Beats(), print)


def test_nobody_writes_a_node(running: Station) -> None:
    async def use(plant: Plant) -> None:
        for name in ("Ready", "Verdict", "Sequence", "OkParts"):
            with pytest.raises(ua.UaStatusCodeError):
                await plant.node(name).write_value(await plant.read(name))
        with pytest.raises(ua.UaStatusCodeError):
            await plant.client.nodes.objects.add_object(plant.space, "mine")

    with_client(running.plc.port, use)


def test_the_heartbeat_moves_while_the_line_does(running: Station) -> None:
    async def use(plant: Plant) -> None:
        first = await plant.read("HeartbeatCount")
        while await plant.read("HeartbeatCount") == first:
            await asyncio.sleep(0.02)
        running.hold.set()
        await plant.call("Trigger", "")
        while not running.beats.stuck():
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        stood = await plant.read("HeartbeatCount")
        await asyncio.sleep(0.6)
        assert await plant.read("HeartbeatCount") == stood

    with_client(running.plc.port, use)


def test_a_silent_client_does_not_hold_the_line_up(running: Station) -> None:
    silent = [socket.create_connection(("127.0.0.1", running.plc.port), 5.0) for _ in range(10)]
    for one in silent:
        one.sendall(b"HELF\xff\xff\xff\x7f")

    async def use(plant: Plant) -> None:
        assert await plant.call("Trigger", "x")
        await plant.until("PartId", "x")

    with_client(running.plc.port, use)
    for one in silent:
        one.close()


def test_a_message_without_end_is_cut_off(running: Station) -> None:
    with socket.create_connection(("127.0.0.1", running.plc.port), WAIT_S) as hostile:
        hostile.sendall(b"HELF\xff\xff\xff\x7f" + bytes(2 << 20))
        assert ends(hostile)


def ends(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text("plc1:of-the-line\n")
    path.chmod(0o600)
    return path


def test_users_with_a_trusted_certificate_come_in_and_nobody_else(
    open_inspector: Callable[..., Inspector], users: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = own_certificate(tmp_path / "known")
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "plc1.der").write_bytes(certificate.read_bytes())
    known, strange = (f"?users={users}&keys={tmp_path / folder}" for folder in ("known", "strange"))
    wrong = tmp_path / "wrong"
    wrong.write_text("plc1:of-another-line\n")
    wrong.chmod(0o600)

    async def use(plant: Plant) -> None:
        assert await plant.call("Trigger", "x")
        await plant.until("PartId", "x")

    with station(
        open_inspector(Options()), f"{LOOPBACK}?users={users}&keys={tmp_path / 'keys'}&trust={trust}"
    ) as closed:
        with_client(closed.plc.port, use, known)
        for refused in ("", strange, known.replace(str(users), str(wrong))):
            with pytest.raises((ua.UaError, OSError)):
                with_client(closed.plc.port, use, refused)
            with pytest.raises(SinkError, match="check users, keys, and what the line trusts"):
                examine(parse(f"opcua://127.0.0.1:{closed.plc.port}{refused}"), 0.1)
        assert examine(parse(f"opcua://127.0.0.1:{closed.plc.port}{known}"), 0.6)["heartbeat"] == "moves"
        assert closed.line.parts.triggered == 1
    assert [each.name for each in caplog.records if each.name.startswith("asyncua")] == []  # strangers fill no journal
    assert key.stat().st_mode & 0o077 == 0


def test_trust_that_lets_nobody_in_is_refused(users: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "plc1.der").write_text("no certificate")
    for folder in ("empty", "text", "missing"):
        with pytest.raises(UsageError, match=f"trust={tmp_path / folder} "):
            check([f"opcua://0.0.0.0?users={users}&trust={tmp_path / folder}"])
        with pytest.raises(UsageError, match=f"trust={tmp_path / folder} "):
            open_plc(f"{LOOPBACK}?users={users}&keys={tmp_path}&trust={tmp_path / folder}", Beats(), print)


def test_trust_without_users_is_refused_as_nobody_would_be_kept_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add users=FILE"):
        check([f"{LOOPBACK}?trust={tmp_path}"])


def test_an_open_door_for_others_is_refused() -> None:
    with pytest.raises(UsageError, match="it needs \\?users=FILE"):
        open_plc("opcua://0.0.0.0:0", Beats(), print)


def test_a_password_file_that_others_read_is_refused(users: Path) -> None:
    users.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        open_plc(f"opcua://127.0.0.1:0?users={users}", Beats(), print)


def test_a_port_in_use_is_named(running: Station) -> None:
    with pytest.raises(UsageError, match="choose another address or port"):
        open_plc(f"opcua://127.0.0.1:{running.plc.port}", Beats(), print)


def test_an_address_without_a_server_says_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SinkError, match="is the line running with --plc"):
        examine(parse(f"opcua://127.0.0.1:{port}"), 0.1)
