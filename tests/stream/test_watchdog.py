"""systemd hears of a line that moves, and of nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lad_edge.stream import watchdog
from lad_edge.stream.watchdog import Beats, ServiceNotifier


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The end of the socket at which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setattr(watchdog, "_PERIOD_S", 0.01)
        yield listening


def heard(systemd: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in systemd.recv(4096).decode().splitlines())


def test_a_line_that_moves_feeds_the_watchdog(systemd: socket.socket) -> None:
    beats = Beats()
    with ServiceNotifier(beats, lambda: "12 parts") as notifier:
        notifier.ready()
        assert heard(systemd) == {"READY": "1"}
        beats.beat("inspector")
        assert heard(systemd) == {"WATCHDOG": "1", "STATUS": "12 parts"}
    while (last := heard(systemd)) == {"WATCHDOG": "1", "STATUS": "12 parts"}:
        pass
    assert last == {"STOPPING": "1"}


def test_one_stage_that_has_stopped_starves_it(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "STALE_S", -1.0)
    beats = Beats()
    beats.beat("inspector")
    with ServiceNotifier(beats, str):
        assert heard(systemd) == {"STATUS": "stopped: inspector"}


def test_a_stage_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "STALE_S", -1.0)
    beats = Beats()
    beats.beat("a")
    beats.beat("b")
    beats.leave("a")
    assert beats.stuck() == ["b"]


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with ServiceNotifier(Beats(), str) as notifier:
        notifier.ready()
        assert notifier._socket is None


def test_a_listener_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    with ServiceNotifier(Beats(), str, str(tmp_path / "nobody")) as notifier:
        notifier.ready()
