"""From the sink on the line through the page's process to a viewer; the process may die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_samples import ABOUT, first, part, request, served, viewing
from scripted import frame
from waiting import until

from lad_edge.dashboard.feed import CameraFeed, Dashboard
from lad_edge.dashboard.messages import pack, receive
from lad_edge.dashboard.process import Settings
from lad_edge.errors import UsageError
from lad_edge.values import Verdict


def test_a_viewer_gets_the_newest_part_with_its_picture_and_its_map() -> None:
    with served() as (dashboard, (feed,)), viewing(dashboard.port) as take:
        feed.write(*part(7, Verdict.NG))
        message = first(take, "part", lambda head: head["record"]["seq"] == 7)
        assert message.head["record"]["verdict"] == "NG"
        picture = cv2.imdecode(np.frombuffer(message.picture, np.uint8), cv2.IMREAD_COLOR)
        heat = cv2.imdecode(np.frombuffer(message.heat, np.uint8), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (48, 64, 3)
        assert heat.shape == (8, 8, 4)
        assert heat[4, 4, 3] > 100 > heat[0, 0, 3]  # the defect covers the picture, the rest lets it through
        assert message.head["map_box"] == [0, 0, 64, 48]


def test_every_part_is_counted_even_where_its_picture_is_left_out() -> None:
    with served() as (dashboard, (feed,)), viewing(dashboard.port) as take:
        for seq in range(1, 501):
            feed.write(*part(seq, Verdict.NG if seq % 10 == 0 else Verdict.OK))
        state = first(take, "state", lambda head: sum(head["verdicts"].values()) == 500).head
        assert state["verdicts"] == {"OK": 450, "NG": 50, "UNKNOWN": 0}
        assert (state["parts"], state["missed"]) == (500, 0)


def test_a_late_result_is_counted_and_not_shown() -> None:
    feed = CameraFeed("tray", ABOUT)
    feed.write(*part(1, Verdict.UNKNOWN))
    feed.write_late(part(1, Verdict.NG)[1])
    heads = [message.head for message in feed.messages(watched=True)]
    assert [head["record"]["verdict"] for head in heads if head["kind"] == "part"] == ["UNKNOWN"]
    assert heads[-1]["reasons"]["LATE_RESULT"] == 1
    assert heads[-1]["verdicts"]["NG"] == 0


def test_large_pictures_are_made_smaller_and_small_ones_are_not_made_larger() -> None:
    feed = CameraFeed("tray", ABOUT)
    sizes = {}
    for seq, shape in enumerate(((2048, 1024, 3), (100, 120), (1, 1, 3)), 1):
        _, result = part(seq)
        feed.write(frame(np.full(shape, 90, np.uint8)), result)
        feed.again()
        message = next(message for message in feed.messages(watched=True) if message.head["kind"] == "part")
        sizes[shape] = cv2.imdecode(np.frombuffer(message.picture, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert sizes == {(2048, 1024, 3): (960, 480), (100, 120): (100, 120), (1, 1, 3): (1, 1)}


@pytest.mark.parametrize("image", [None, np.zeros((4, 4), np.uint16), np.zeros((0,), np.uint8)])
def test_a_part_without_a_picture_that_can_be_shown_has_its_record_all_the_same(image: object) -> None:
    feed = CameraFeed("tray", ABOUT)
    feed.write(frame(image), part(3, Verdict.UNKNOWN)[1])
    message = next(iter(feed.messages(watched=True)))
    assert (message.head["record"]["seq"], message.picture, message.heat) == (3, b"", b"")


def test_a_killed_page_is_started_again_and_knows_the_last_ng_parts() -> None:
    with served() as (dashboard, (feed,)):
        port, killed = dashboard.port, dashboard.pid
        feed.write(*part(1, Verdict.NG))
        until(lambda: feed.rejects)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        until(lambda: dashboard.pid not in (None, killed))
        with viewing(port) as take:
            assert first(take, "reject").head["record"]["seq"] == 1


def test_a_page_that_hangs_holds_up_no_write_and_is_replaced() -> None:
    with served() as (dashboard, (feed,)):
        stopped = dashboard.pid
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)

        def replaced() -> bool:
            feed.write(*part(feed.written + 1, Verdict.NG, detail="x" * 20_000))  # fills the socket to the page
            return dashboard.pid not in (None, stopped)

        until(replaced)
        until(lambda: request(dashboard.port, "GET", "/")[0] == 200)


def test_the_page_ends_with_the_line() -> None:
    with served() as (dashboard, _):
        pid = dashboard.pid
    assert pid is not None
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_what_comes_faster_than_it_can_be_counted_is_said_and_not_stored() -> None:
    feed, cheap = CameraFeed("tray", ABOUT), part(1)
    for _ in range(10_000):
        feed.write(*cheap)
    state = next(message for message in feed.messages(watched=True) if message.head["kind"] == "state").head
    assert state["parts"] == 10_000
    assert sum(state["verdicts"].values()) + state["missed"] == 10_000
    assert state["missed"] > 0


def test_without_its_package_the_page_says_how_to_install_it() -> None:
    program = "import sys; sys.modules['h11'] = None; from lad_edge.dashboard.__main__ import main; main()"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(pack({"kind": "open", "host": "127.0.0.1", "port": 0, "token": None, "labels": ""}).data)
        command = [sys.executable, "-c", program, str(theirs.fileno())]
        subprocess.run(command, pass_fds=[theirs.fileno()], check=True, timeout=60)
        answer = receive(lambda count: ours.recv(count, socket.MSG_WAITALL)).head
    assert answer["kind"] == "refused"
    assert "pip install 'lad-edge[dashboard]'" in answer["error"]


def test_an_address_that_is_taken_or_open_to_others_is_refused() -> None:
    with served() as (dashboard, _):
        with pytest.raises(UsageError, match="choose another address"):
            Dashboard(Settings("127.0.0.1", dashboard.port), print)
        with pytest.raises(UsageError, match="token"):
            Dashboard(Settings("0.0.0.0", 0), print)
