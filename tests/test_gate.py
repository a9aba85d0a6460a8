"""The gate: OK is earned; every reason is reported, in a stable order; NaN never passes."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from lad_edge.bundle import Contract
from lad_edge.gate import Decision, Gate, Limits, fingerprint
from lad_edge.values import Frame, Reason, Scores, Verdict

CONTRACT = Contract(
    width=tiny.WIDTH,
    height=tiny.HEIGHT,
    pixel_format="bgr8",
    roi=None,
    size=(32, 32),
    channel_order="rgb",
    resize="bilinear-antialias",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)
LIMITS = Limits(threshold=0.1, envelope=(-1.0, 10.0), scores=np.linspace(0.0, 0.1, 99))
MAP = np.zeros((32, 32), np.float32)


def gate_for(*, live: bool = False, limits: Limits = LIMITS, contract: Contract = CONTRACT) -> Gate:
    gate = Gate(contract, limits, live=live)
    gate.verified = True
    return gate


def a_frame(seq: int = 1, **changes: object) -> Frame:
    frame = Frame(seq, f"id-{seq}", tiny.good_picture(seq), "bgr8", time.monotonic_ns(), 0)
    return replace(frame, **changes)  # type: ignore[arg-type]


def scores(score: float = 0.05, structural: float = 0.05, logical: float = 0.05, nonfinite: int = 0) -> Scores:
    return Scores(score, structural, logical, nonfinite, MAP)


def decide(gate: Gate, frame: Frame, found: Scores | None) -> Decision:
    return gate.decide(frame, gate.admit(frame), found)


def test_a_good_frame_with_a_score_at_the_threshold_is_ok() -> None:
    decision = decide(gate_for(), a_frame(), scores(0.1))
    assert decision == Decision(Verdict.OK, (Reason.SCORE_WITHIN_LIMIT,))


@pytest.mark.parametrize(
    ("structural", "logical", "causes"),
    [
        (0.3, 0.0, (Reason.STRUCTURAL_ABOVE_LIMIT,)),
        (0.0, 0.3, (Reason.LOGICAL_ABOVE_LIMIT,)),
        (0.3, 0.25, (Reason.STRUCTURAL_ABOVE_LIMIT, Reason.LOGICAL_ABOVE_LIMIT)),
        (0.3, 0.11, (Reason.STRUCTURAL_ABOVE_LIMIT,)),
        (0.1, 0.1, (Reason.COMBINED_ABOVE_LIMIT,)),
    ],
)
def test_ng_names_the_branches_that_are_above_the_limit(
    structural: float, logical: float, causes: tuple[Reason, ...]
) -> None:
    decision = decide(gate_for(), a_frame(), scores(0.15, structural, logical))
    assert decision == Decision(Verdict.NG, causes)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.1, 10.1])
def test_a_score_that_no_sound_engine_gives_is_unknown(value: float) -> None:
    decision = decide(gate_for(), a_frame(), scores(value))
    assert decision.verdict is Verdict.UNKNOWN
    assert decision.reasons == (Reason.OUTPUT_INVALID,)


def test_one_non_finite_output_is_unknown_although_the_score_is_low() -> None:
    assert decide(gate_for(), a_frame(), scores(0.0, nonfinite=1)).reasons == (Reason.OUTPUT_INVALID,)


def test_a_nan_threshold_never_gives_ok() -> None:
    gate = gate_for(limits=replace(LIMITS, threshold=math.nan))
    assert decide(gate, a_frame(), scores(0.0)).verdict is Verdict.NG


def test_before_the_self_test_nothing_is_ok() -> None:
    gate = Gate(CONTRACT, LIMITS)
    assert decide(gate, a_frame(), scores()).reasons == (Reason.ENGINE_NOT_VERIFIED,)


def test_a_frame_that_was_not_scored_is_never_ok() -> None:
    assert decide(gate_for(), a_frame(), None).reasons == (Reason.INTERNAL,)


def test_all_reasons_are_reported_in_a_stable_order() -> None:
    limits = replace(LIMITS, deadline_ms=1.0, max_age_ms=1.0)
    old = time.monotonic_ns() - 10**9
    frame = a_frame(captured_ns=old, pixel_format="rgb8")
    decision = decide(gate_for(limits=limits), frame, scores(math.nan, nonfinite=3))
    assert decision.reasons == (Reason.FRAME_STALE, Reason.FRAME_FORMAT, Reason.OUTPUT_INVALID, Reason.DEADLINE)
    assert decision.detail.count(";") == 3


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.uint16),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((47, 64, 3), np.uint8),
        np.zeros((64, 48, 3), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
        np.zeros(64, np.uint8),
        np.zeros((48, 128, 3), np.uint8)[:, ::2],
        np.zeros((48, 64, 3), np.uint8)[:, :, ::-1],
    ],
    ids=lambda image: f"{image.dtype}{image.shape}{image.strides}",
)
def test_a_picture_that_does_not_fit_the_contract_is_unknown(image: np.ndarray) -> None:
    decision = decide(gate_for(), a_frame(image=image), scores())
    assert decision.reasons == (Reason.FRAME_FORMAT,)


def test_rows_with_a_pitch_are_fine() -> None:
    wide = np.zeros((48, 80, 3), np.uint8)
    assert decide(gate_for(), a_frame(image=wide[:, 8:72]), scores()).verdict is Verdict.OK


def test_a_region_of_interest_outside_the_frame_is_unknown() -> None:
    contract = replace(CONTRACT, width=None, height=None, roi=(40, 0, 30, 30))
    decision = decide(gate_for(contract=contract), a_frame(), scores())
    assert decision.reasons == (Reason.FRAME_FORMAT,)


def test_the_fault_of_a_frame_is_its_reason() -> None:
    frame = a_frame(image=None, fault=Reason.DROPPED, fault_detail="too many")
    assert decide(gate_for(), frame, None) == Decision(Verdict.UNKNOWN, (Reason.DROPPED,), "too many")


def test_a_frame_without_picture_and_without_fault_is_missing() -> None:
    assert decide(gate_for(), a_frame(image=None), None).reasons == (Reason.FRAME_MISSING,)


def test_a_live_picture_that_comes_again_is_unknown_until_it_changes() -> None:
    gate, picture = gate_for(live=True), tiny.good_picture(0)
    verdicts = [
        decide(gate, a_frame(seq, image=image), scores(0.001 * seq)).reasons
        for seq, image in enumerate([picture, picture.copy(), picture.copy(), tiny.good_picture(9)], start=1)
    ]
    assert verdicts[0] == verdicts[3] == (Reason.SCORE_WITHIN_LIMIT,)
    assert verdicts[1] == verdicts[2] == (Reason.FRAME_REPEAT,)


def test_a_frame_id_that_comes_again_is_unknown_although_the_picture_differs() -> None:
    gate = gate_for(live=True)
    decide(gate, a_frame(1, frame_id="7"), scores(0.01))
    assert decide(gate, a_frame(2, frame_id="7"), scores(0.02)).reasons == (Reason.FRAME_REPEAT,)


def test_equal_files_may_follow_each_other() -> None:
    gate, picture = gate_for(), tiny.good_picture(0)
    decide(gate, a_frame(1, image=picture), scores())
    assert decide(gate, a_frame(2, image=picture), scores()).verdict is Verdict.OK


def test_an_engine_that_always_answers_the_same_is_unknown() -> None:
    gate = gate_for(live=True)
    assert decide(gate, a_frame(1), scores()).verdict is Verdict.OK
    assert decide(gate, a_frame(2), scores()).reasons == (Reason.OUTPUT_STUCK,)


def test_equal_scores_with_different_maps_are_no_stuck_engine() -> None:
    gate = gate_for(live=True)
    first = scores(score=1.0)
    other = replace(first, anomaly_map=first.anomaly_map.copy() + np.float32(0.01))
    assert decide(gate, a_frame(1), first).verdict is Verdict.NG
    assert Reason.OUTPUT_STUCK not in decide(gate, a_frame(2), other).reasons


@pytest.mark.parametrize("seq", [5, 4])
def test_a_frame_that_is_not_newer_is_unknown(seq: int) -> None:
    gate = gate_for()
    decide(gate, a_frame(5), scores())
    assert decide(gate, a_frame(seq), scores()).reasons == (Reason.FRAME_ORDER,)


@given(st.integers(0, 47), st.integers(0, 63), st.integers(1, 255))
def test_the_fingerprint_sees_any_change_in_the_rows_that_it_reads(row: int, column: int, change: int) -> None:
    picture = tiny.good_picture(3)
    changed = picture.copy()
    changed[row // 3 * 3, column, 1] ^= np.uint8(change)  # 48 rows: every third one is read
    assert fingerprint(changed) != fingerprint(picture)


@given(st.floats(-1.0, 1.0))
def test_the_p_value_is_the_conformal_rank(score: float) -> None:
    good = LIMITS.scores
    assert gate_for().p_value(score) == (1 + int((good >= score).sum())) / (len(good) + 1)
