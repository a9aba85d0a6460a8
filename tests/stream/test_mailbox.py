"""The mailbox: the newest frames win, and whoever waits for one is told when there will be none."""

from __future__ import annotations

import threading

from scripted import frame

from lad_edge.stream.mailbox import Mailbox

WAIT_S = 10.0


def names(mailbox: Mailbox) -> list[str]:
    return [taken.frame_id for taken in iter(lambda: mailbox.take(0.0), None)]


def test_the_newest_frames_win_and_come_in_order() -> None:
    one, three = Mailbox(), Mailbox(3)
    for number in range(5):
        for mailbox in (one, three):
            assert mailbox.put(frame(None, str(number)))
    assert names(one) == ["4"]
    assert names(three) == ["2", "3", "4"]


def test_who_waits_gets_the_next_frame_at_once() -> None:
    mailbox, taken = Mailbox(), []
    waiting = threading.Thread(target=lambda: taken.append(mailbox.take(WAIT_S)))
    waiting.start()
    mailbox.put(frame(None, "late"))
    waiting.join(WAIT_S)
    assert [one.frame_id for one in taken] == ["late"]


def test_a_closed_mailbox_takes_nothing_and_keeps_what_is_inside() -> None:
    mailbox = Mailbox()
    mailbox.put(frame(None, "last"))
    mailbox.close()
    assert not mailbox.put(frame(None, "too late"))
    assert not mailbox.finished
    assert names(mailbox) == ["last"]
    assert mailbox.finished
    assert mailbox.take(WAIT_S) is None
