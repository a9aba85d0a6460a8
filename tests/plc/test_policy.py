"""What a PLC is shown of parts that are UNKNOWN: never more than the station can do with them, and never OK."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from stations import station
from waiting import until

from lad_edge.inspector import Inspector, Options
from lad_edge.plc.codes import REASON_CODES
from lad_edge.plc.policy import ACTIONS, UnknownPolicy
from lad_edge.stream.loop import LineOptions
from lad_edge.values import Reason, Result, Verdict


def result(verdict: Verdict, *reasons: Reason) -> Result:
    return Result(1, "part", verdict, reasons, 0, 0)


LATE, DARK = (result(Verdict.UNKNOWN, reason) for reason in (Reason.DEADLINE, Reason.FRAME_DARK))


@pytest.mark.parametrize(
    ("policy", "late", "dark"),
    [
        (UnknownPolicy(), "UNKNOWN", "UNKNOWN"),
        (UnknownPolicy("reject"), "NG", "NG"),
        (UnknownPolicy("hold", "reject"), "NG", "UNKNOWN"),
        (UnknownPolicy("reject", "hold"), "UNKNOWN", "NG"),
    ],
)
def test_late_parts_may_be_treated_otherwise_than_all_others(policy: UnknownPolicy, late: str, dark: str) -> None:
    assert (policy(LATE).verdict.value, policy(DARK).verdict.value) == (late, dark)
    assert policy(LATE).reasons == LATE.reasons


@pytest.mark.parametrize("verdict", list(Verdict))
def test_no_policy_shows_a_part_better_than_it_is(verdict: Verdict) -> None:
    for actions in product(ACTIONS, (None, *ACTIONS)):
        shown = UnknownPolicy(*actions)(result(verdict, Reason.DEADLINE)).verdict
        assert shown is verdict or (verdict, shown) == (Verdict.UNKNOWN, Verdict.NG)


def test_a_rejected_late_part_is_ng_for_the_plc_and_unknown_in_its_record(
    open_inspector: Callable[..., Inspector],
) -> None:
    with station(open_inspector(Options()), options=LineOptions(deadline_ms=30)) as running:
        running.plc.policy = UnknownPolicy(on_late="reject")
        running.hold.set()
        running.plc.handshake.set_levels(trigger=True, ack=False, part_id="tray-1")
        until(lambda: running.plc.handshake.outputs.verdict is not None)
        shown = running.plc.handshake.outputs
    assert (shown.verdict, shown.reason) == (Verdict.NG, REASON_CODES[Reason.DEADLINE])
    assert (shown.ng_parts, shown.unknown_parts) == (1, 0)
    assert running.verdicts == ["UNKNOWN"]
