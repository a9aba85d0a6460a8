"""The nouns of the stream: frozen values that cross rooms; no behaviour, no imports from other rooms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Verdict(str, Enum):
    """OK releases the part, NG rejects it, UNKNOWN means that nothing trustworthy can be said: reject or hold."""

    OK = "OK"
    NG = "NG"
    UNKNOWN = "UNKNOWN"


class Reason(str, Enum):
    """Stable reason codes: never renamed, never reused."""

    # OK
    SCORE_WITHIN_LIMIT = "SCORE_WITHIN_LIMIT"
    # NG
    STRUCTURAL_ABOVE_LIMIT = "STRUCTURAL_ABOVE_LIMIT"
    LOGICAL_ABOVE_LIMIT = "LOGICAL_ABOVE_LIMIT"
    COMBINED_ABOVE_LIMIT = "COMBINED_ABOVE_LIMIT"
    # UNKNOWN, frame
    DROPPED = "DROPPED"
    FRAME_MISSING = "FRAME_MISSING"
    FRAME_INCOMPLETE = "FRAME_INCOMPLETE"
    FRAME_STALE = "FRAME_STALE"
    FRAME_REPEAT = "FRAME_REPEAT"
    FRAME_ORDER = "FRAME_ORDER"
    FRAME_FORMAT = "FRAME_FORMAT"
    FRAME_DARK = "FRAME_DARK"
    FRAME_SATURATED = "FRAME_SATURATED"
    FRAME_FLAT = "FRAME_FLAT"
    FRAME_BLURRED = "FRAME_BLURRED"
    PART_MISPLACED = "PART_MISPLACED"
    # UNKNOWN, engine
    OUTPUT_INVALID = "OUTPUT_INVALID"
    OUTPUT_STUCK = "OUTPUT_STUCK"
    SCORE_IN_GUARD_BAND = "SCORE_IN_GUARD_BAND"
    DEADLINE = "DEADLINE"
    ENGINE_NOT_VERIFIED = "ENGINE_NOT_VERIFIED"
    SELF_TEST_FAILED = "SELF_TEST_FAILED"
    GPU_FAULT = "GPU_FAULT"
    GPU_MEMORY = "GPU_MEMORY"
    ENGINE_CRASH = "ENGINE_CRASH"
    # UNKNOWN, station
    CAMERA_LOST = "CAMERA_LOST"
    CAMERA_BUSY = "CAMERA_BUSY"
    WRONG_CAMERA = "WRONG_CAMERA"
    WRONG_PRODUCT = "WRONG_PRODUCT"
    NOT_DURABLE = "NOT_DURABLE"
    STARTING = "STARTING"
    STOPPING = "STOPPING"
    INTERNAL = "INTERNAL"
    TRIGGER_LOST = "TRIGGER_LOST"
    # warnings: they stand beside a verdict and never change it. Nobody raises ECC_RISING and CPU_FALLBACK: this version does not read the
    # error counters of a GPU, and never goes on without the GPU that it was told to use. Their names and numbers are taken all the same.
    THERMAL_MARGIN = "THERMAL_MARGIN"
    ECC_RISING = "ECC_RISING"
    SINK_BEHIND = "SINK_BEHIND"
    DISK_LOW = "DISK_LOW"
    CLOCK_UNSYNCED = "CLOCK_UNSYNCED"
    CPU_FALLBACK = "CPU_FALLBACK"
    LATE_RESULT = "LATE_RESULT"


@dataclass(frozen=True)
class Frame:
    """One captured picture, or the statement that there is none.

    image: (H, W, 3) or (H, W), uint8, or whatever the source really delivered; None when `fault` says why.
    captured_ns: monotonic clock at capture; utc_ns: wall clock at capture, a label only. part_id: the name that the trigger gave the part.
    """

    seq: int
    frame_id: str
    image: NDArray[np.generic] | None
    pixel_format: str  # "bgr8", "rgb8", "mono8", or a description of something that no contract accepts
    captured_ns: int
    utc_ns: int
    fault: Reason | None = None
    fault_detail: str = ""
    source: str = ""  # name of the camera or file, without secrets
    part_id: str = ""


@dataclass(frozen=True)
class Region:
    """A connected area of the anomaly map above the threshold, in pixels of the frame."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    area_px: int
    peak: float
    peak_x_px: int
    peak_y_px: int


@dataclass(frozen=True)
class GoodPatch:
    """A place that was found, and what a good part shows there. part: its name; picture: (h, w, 3) BGR or (h, w), uint8.

    x_px … height_px: the place; in Scores in pixels of the anomaly map, in a Result in pixels of the frame.
    """

    part: str
    x_px: int
    y_px: int
    width_px: int
    height_px: int
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class Scores:
    """What a scorer says of one frame; higher is more anomalous.

    anomaly_map: (h, w) float32, a view of the scorer's own buffer: copy it to keep it.
    nonfinite: how many non-finite values were seen in the engine's outputs; anything above 0 is invalid.
    explain: gives sentences on what is unusual, the worst first, until the next frame is scored: only rejected parts are worth its time.
    show_good: gives in the same way what good parts show at the worst places; none where the engine keeps no pictures.
    """

    score: float
    structural: float
    logical: float
    nonfinite: int
    anomaly_map: NDArray[np.float32]
    stages_us: Mapping[str, float] = field(default_factory=dict)
    explain: Callable[[], tuple[str, ...]] = tuple
    show_good: Callable[[], tuple[GoodPatch, ...]] = tuple


@dataclass(frozen=True)
class Result:
    """The verdict on one part; one record everywhere. Score fields are None when the part was not scored."""

    seq: int
    frame_id: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    captured_ns: int
    utc_ns: int
    score: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    structural_score: float | None = None
    logical_score: float | None = None
    regions: tuple[Region, ...] = ()
    findings: tuple[str, ...] = ()
    detail: str = ""  # one line for a person: why UNKNOWN
    moved_px: tuple[int, int] | None = (
        None  # how far the region followed the part to the right and down; None = it stays
    )
    roi_px: tuple[int, int, int, int] | None = None  # x, y, width, height of the frame that the engine got; None = all
    stages_us: Mapping[str, float] = field(default_factory=dict)
    engine_sha256: str = ""
    part_id: str = ""  # the name that the trigger gave the part
    anomaly_map: NDArray[np.float32] | None = None  # (h, w), owned by the result; not part of the record
    good_patches: tuple[GoodPatch, ...] = ()  # with the map of a rejected part; not part of the record
