"""Reasons and errors as numbers that a PLC program can compare; never renumbered, never reused."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

# 0 = no result is shown. Below 10 OK, 10s NG, 20s and 30s the picture, 40s the engine, 60s the station, 80s warnings.
REASON_CODES: Mapping[Reason, int] = {
    Reason.SCORE_WITHIN_LIMIT: 1,
    Reason.STRUCTURAL_ABOVE_LIMIT: 10,
    Reason.LOGICAL_ABOVE_LIMIT: 11,
    Reason.COMBINED_ABOVE_LIMIT: 12,
    Reason.DROPPED: 20,
    Reason.FRAME_MISSING: 21,
    Reason.FRAME_INCOMPLETE: 22,
    Reason.FRAME_STALE: 23,
    Reason.FRAME_REPEAT: 24,
    Reason.FRAME_ORDER: 25,
    Reason.FRAME_FORMAT: 26,
    Reason.FRAME_DARK: 27,
    Reason.FRAME_SATURATED: 28,
    Reason.FRAME_FLAT: 29,
    Reason.FRAME_BLURRED: 30,
    Reason.PART_MISPLACED: 31,
    Reason.OUTPUT_INVALID: 40,
    Reason.OUTPUT_STUCK: 41,
    Reason.SCORE_IN_GUARD_BAND: 42,
    Reason.DEADLINE: 43,
    Reason.ENGINE_NOT_VERIFIED: 44,
    Reason.SELF_TEST_FAILED: 45,
    Reason.GPU_FAULT: 46,
    Reason.GPU_MEMORY: 47,
    Reason.ENGINE_CRASH: 48,
    Reason.CAMERA_LOST: 60,
    Reason.CAMERA_BUSY: 61,
    Reason.WRONG_CAMERA: 62,
    Reason.WRONG_PRODUCT: 63,
    Reason.NOT_DURABLE: 64,
    Reason.STARTING: 65,
    Reason.STOPPING: 66,
    Reason.INTERNAL: 67,
    Reason.TRIGGER_LOST: 68,
    Reason.THERMAL_MARGIN: 80,
    Reason.ECC_RISING: 81,
    Reason.SINK_BEHIND: 82,
    Reason.DISK_LOW: 83,
    Reason.CLOCK_UNSYNCED: 84,
    Reason.CPU_FALLBACK: 85,
    Reason.LATE_RESULT: 86,
}


class HandshakeError(IntEnum):
    """What was wrong with the last trigger; shown with ERROR until it is acknowledged or the next trigger is taken."""

    NONE = 0
    NOT_READY = 1  # a trigger came while BUSY: that part is UNKNOWN with reason CAMERA_BUSY
    NOT_RUNNING = 2  # the line is starting or stopping: there is no part and no result
    COUNTER_JUMPED = 3  # TRIGGER_COUNTER did not move on by one: there is no part; the next step of one triggers
