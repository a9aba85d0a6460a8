"""The handshake without a bus: one token for each part, nothing stale, nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lad_edge.plc.codes import REASON_CODES, HandshakeError
from lad_edge.plc.handshake import NO_SCORE, Handshake, Outputs
from lad_edge.values import Reason, Result, Verdict


class Desk:
    """Takes parts as a line does; `lost`: the line ends."""

    def __init__(self) -> None:
        self.fired: list[str] = []
        self.refused: list[str] = []
        self.lost = False
        self.handshake = Handshake()
        self.handshake.open(self.fire, self.refuse)

    def fire(self, part_id: str) -> bool:
        self.fired.append(part_id)
        return not self.lost

    def refuse(self, part_id: str) -> bool:
        self.refused.append(part_id)
        return not self.lost

    @property
    def outputs(self) -> Outputs:
        return self.handshake.outputs

    def levels(
        self, *, trigger: bool = False, ack: bool = False, counter: int | None = None, name: str = ""
    ) -> Outputs:
        self.handshake.set_levels(trigger=trigger, ack=ack, counter=counter, part_id=name)
        return self.outputs


@pytest.fixture
def desk() -> Desk:
    return Desk()


def result(verdict: Verdict, seq: int = 1, **changes: object) -> Result:
    reasons = {
        Verdict.OK: Reason.SCORE_WITHIN_LIMIT,
        Verdict.NG: Reason.LOGICAL_ABOVE_LIMIT,
        Verdict.UNKNOWN: Reason.CAMERA_BUSY,
    }
    return Result(seq, "frame", verdict, (reasons[verdict],), 0, 0, **changes)  # type: ignore[arg-type]


def test_every_reason_has_a_number_of_its_own() -> None:
    assert set(REASON_CODES) == set(Reason)
    assert len(set(REASON_CODES.values())) == len(Reason)
    assert all(0 < code < 100 for code in REASON_CODES.values())


def test_a_part_from_trigger_to_release(desk: Desk) -> None:
    assert desk.outputs.ready
    triggered = desk.levels(trigger=True, name="tray-17")
    assert (triggered.ready, triggered.busy, triggered.verdict) == (False, True, None)
    assert desk.fired == ["tray-17"]
    desk.handshake.show(result(Verdict.OK, seq=41, score=0.0126, part_id="tray-17"))
    shown = desk.outputs
    assert (shown.ready, shown.busy, shown.verdict, shown.sequence) == (True, False, Verdict.OK, 41)
    assert (shown.score_milli, shown.part_id, shown.reason) == (13, "tray-17", 1)
    released = desk.levels(trigger=True, ack=True)
    assert (released.verdict, released.part_id, released.reason) == (None, "", 0)
    assert released.score_milli == NO_SCORE
    assert released.sequence == 41
    assert desk.fired == ["tray-17"]


def test_the_next_trigger_takes_an_unacknowledged_result_away(desk: Desk) -> None:
    desk.levels(trigger=True)
    desk.handshake.show(result(Verdict.OK))
    desk.levels()
    assert desk.outputs.verdict is Verdict.OK
    assert desk.levels(trigger=True).verdict is None


def test_writing_the_same_again_does_nothing(desk: Desk) -> None:
    for _ in range(3):
        desk.levels(trigger=True, counter=1)
    assert desk.outputs.triggers == 1
    desk.handshake.show(result(Verdict.OK))
    desk.levels(trigger=True, ack=True, counter=1)
    desk.levels(trigger=True, ack=True, counter=1)
    assert desk.outputs.triggers == 1


def test_a_trigger_while_busy_is_an_error_and_an_unknown_part_of_its_own(desk: Desk) -> None:
    desk.levels(trigger=True, name="a")
    desk.levels()
    busy = desk.levels(trigger=True, name="b")
    assert busy.error is HandshakeError.NOT_READY
    assert (busy.triggers, busy.refused) == (2, 1)
    assert (desk.fired, desk.refused) == (["a"], ["b"])
    desk.handshake.show(result(Verdict.OK, 1, part_id="a"))
    desk.handshake.show(result(Verdict.UNKNOWN, 2, part_id="b"))
    assert desk.outputs.verdict is None, "OK of 'a' must not be taken for one of 'b'"
    assert desk.levels(trigger=True, ack=True).error is HandshakeError.NONE
    assert desk.levels().part_id == "a"
    assert not desk.levels(ack=True).bits["RESULT_VALID"]
    second = desk.levels()
    assert (second.part_id, second.verdict, second.error) == ("b", Verdict.UNKNOWN, HandshakeError.NONE)
    assert (second.ok_parts, second.unknown_parts) == (1, 1)


@pytest.mark.parametrize("wrong", ["counter", "closed"])
def test_a_trigger_that_is_no_part_takes_the_result_away_too(desk: Desk, wrong: str) -> None:
    desk.levels(trigger=True)
    desk.handshake.show(result(Verdict.OK))
    assert desk.levels().verdict is Verdict.OK
    if wrong == "closed":
        desk.handshake.close()
    outputs = desk.levels(trigger=wrong == "closed", counter=7 if wrong == "counter" else None)
    assert (outputs.bits["ERROR"], outputs.verdict) == (True, None)


def test_a_result_waits_for_ack_to_fall(desk: Desk) -> None:
    desk.levels(trigger=True, ack=True)
    desk.handshake.show(result(Verdict.OK))
    assert desk.outputs.verdict is None
    assert desk.levels(trigger=True).verdict is Verdict.OK


def test_a_counter_triggers_by_steps_of_one(desk: Desk) -> None:
    assert desk.levels(counter=1).triggers == 1
    desk.handshake.show(result(Verdict.OK))
    jumped = desk.levels(counter=5)
    assert (jumped.error, jumped.triggers, jumped.refused) == (HandshakeError.COUNTER_JUMPED, 2, 1)
    assert desk.levels(counter=6).error is HandshakeError.NONE
    assert len(desk.fired) == 2


def test_a_counter_wraps(desk: Desk) -> None:
    desk.levels(counter=65535)
    desk.levels(counter=0)
    assert len(desk.fired) == 1


@pytest.mark.parametrize("closed", [True, False])
def test_a_trigger_of_a_line_that_ends_is_an_error(desk: Desk, closed: bool) -> None:
    desk.lost = True
    if closed:
        desk.handshake.close()
    outputs = desk.levels(trigger=True)
    assert (outputs.error, outputs.triggers, outputs.refused) == (HandshakeError.NOT_RUNNING, 1, 1)
    assert outputs.ready is not closed
    assert not outputs.busy


def test_scores_stay_in_their_register(desk: Desk) -> None:
    for score, milli in ((1e30, 2**31 - 1), (-1e30, NO_SCORE + 1), (None, NO_SCORE), (-0.5, -500)):
        desk.handshake.trigger()
        desk.handshake.show(result(Verdict.NG, score=score))
        assert desk.outputs.score_milli == milli


STEPS = st.sampled_from(["trigger", "trigger falls", "ack", "ack falls", "result"])


@given(st.lists(STEPS, max_size=60))
def test_whatever_a_plc_does_no_result_is_shown_twice_or_beside_another(steps: list[str]) -> None:
    desk, trigger, ack, results, shown = Desk(), False, False, 0, []
    for step in steps:
        if step == "result":
            if results == len(desk.fired) + len(desk.refused):
                continue
            results += 1
            desk.handshake.show(result(Verdict.OK, results))
        else:
            trigger = step == "trigger" if step.startswith("trigger") else trigger
            ack = step == "ack" if step.startswith("ack") else ack
            desk.levels(trigger=trigger, ack=ack)
        outputs = desk.outputs
        assert not (outputs.ready and outputs.busy)
        assert not (outputs.bits["ERROR"] and outputs.bits["RESULT_VALID"])
        assert outputs.busy == (results < len(desk.fired) + len(desk.refused))
        if outputs.verdict is not None and (not shown or shown[-1] != outputs.sequence):
            shown.append(outputs.sequence)
    assert shown == sorted(set(shown))
    assert outputs_add_up(desk)


def outputs_add_up(desk: Desk) -> bool:
    outputs = desk.outputs
    return outputs.triggers == len(desk.fired) + len(desk.refused) and outputs.refused == len(desk.refused)


def test_where_nobody_acknowledges_each_result_stands_until_clients_were_told_of_it_and_the_next_one_comes() -> None:
    handshake = Handshake(attended=False)
    shown = []
    for number in (1, 2, 3):
        handshake.show(result(Verdict.OK, number))
        shown.append(handshake.outputs.sequence)
    for _ in range(4):
        handshake.told(handshake.outputs.sequence)
        shown.append(handshake.outputs.sequence)
    assert shown == [1, 1, 1, 2, 3, 3, 3]
    handshake.show(result(Verdict.NG, 4))
    assert (handshake.outputs.verdict, handshake.outputs.sequence) == (Verdict.NG, 4)
    assert (handshake.outputs.triggers, handshake.outputs.ok_parts, handshake.outputs.ng_parts) == (4, 3, 1)


def test_a_trigger_at_a_station_that_only_shows_is_an_error_that_hides_no_result() -> None:
    handshake = Handshake(attended=False)
    handshake.show(result(Verdict.OK, 1))
    assert not handshake.trigger("mine")
    assert (handshake.outputs.error, handshake.outputs.verdict) == (HandshakeError.NOT_RUNNING, Verdict.OK)
    handshake.told(1)
    handshake.show(result(Verdict.OK, 2))
    assert handshake.outputs.sequence == 2
