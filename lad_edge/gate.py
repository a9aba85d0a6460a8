"""A frame and its scores go in, a verdict comes out: the only code that may say OK (reliability.md §1.3)."""

from __future__ import annotations

import math
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.values import Frame, Reason, Scores, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lad_edge.bundle import Contract
    from lad_edge.views import PictureGate

Findings = list[tuple[Reason, str]]  # a reason and one line for a person

_CHANNELS = {"bgr8": 3, "rgb8": 3, "mono8": 1}
_HASHED_ROWS = 16


@dataclass(frozen=True)
class Limits:
    """What an OK has to keep to.

    threshold: a part is OK at or under it; envelope: scores outside (low, high) cannot come from a sound engine.
    scores: (n,) float64, sorted scores of the good validation images, for p-values.
    deadline_ms: from capture to verdict; max_age_ms: from capture to the start of the inspection; None = no limit.
    """

    threshold: float
    envelope: tuple[float, float]
    scores: NDArray[np.float64]
    deadline_ms: float | None = None
    max_age_ms: float | None = None


@dataclass(frozen=True)
class Decision:
    """A verdict, all reasons that apply in the order of the `Reason` list, and one line that explains an UNKNOWN."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    detail: str = ""


class Gate:
    """Collects every reason against OK; a verdict is OK only when none is left and the score is within the limit."""

    def __init__(
        self, contract: Contract, limits: Limits, *, live: bool = False, picture: PictureGate | None = None
    ) -> None:
        """`live`: a source in which an equal picture twice means that the camera is stuck. `picture`: None = any light will do."""
        self.contract, self.limits, self.picture = contract, limits, picture
        self.verified = False  # set by the inspector after its self-test
        self.history = History(live)

    def admit(self, frame: Frame) -> Findings:
        """Reasons not to trust this frame that are known before it is scored. Each frame is admitted exactly once."""
        found: Findings = [] if self.verified else [(Reason.ENGINE_NOT_VERIFIED, "the golden self-test has not passed")]
        if frame.fault is not None:
            found.append((frame.fault, frame.fault_detail))
        if frame.image is not None:
            found += format_findings(frame.image, frame.pixel_format, self.contract)
        elif frame.fault is None:
            found.append((Reason.FRAME_MISSING, "the source delivered no picture"))
        return found + self.history.findings(frame) + self._age_findings(frame)

    def look(self, inspected: NDArray[np.uint8]) -> Findings:
        """Reasons not to trust the light, focus and place of the inspected region: its score is recorded, and does not count."""
        return [] if self.picture is None else self.picture.findings(inspected)

    def decide(self, frame: Frame, found: Findings, scores: Scores | None) -> Decision:
        """The verdict on an admitted frame; `scores` is None when it was not scored."""
        found = list(found)
        if scores is not None:
            found += self._score_findings(scores) + self.history.stuck(scores)
        found += self._deadline_findings(frame)
        if found or scores is None:
            return _unknown(found or [(Reason.INTERNAL, "the frame was not scored")])
        if scores.score <= self.limits.threshold:
            return Decision(Verdict.OK, (Reason.SCORE_WITHIN_LIMIT,))
        return Decision(Verdict.NG, _causes(scores, self.limits.threshold))

    def p_value(self, score: float) -> float:
        """Conformal p-value (1 + #{good scores ≥ score}) / (n + 1): how rare a good part with such a score is."""
        good = self.limits.scores
        at_least = good.size - int(np.searchsorted(good, score, side="left"))
        return (1 + at_least) / (good.size + 1)

    def _age_findings(self, frame: Frame) -> Findings:
        limit, age_ms = self.limits.max_age_ms, (time.monotonic_ns() - frame.captured_ns) / 1e6
        if limit is None or age_ms <= limit:
            return []
        return [(Reason.FRAME_STALE, f"the frame was {age_ms:.0f} ms old, allowed are {limit:g} ms")]

    def _score_findings(self, scores: Scores) -> Findings:
        low, high = self.limits.envelope
        if scores.nonfinite or not math.isfinite(scores.score):
            return [(Reason.OUTPUT_INVALID, f"the engine put out {scores.nonfinite} values that are not finite")]
        if not low <= scores.score <= high:
            return [(Reason.OUTPUT_INVALID, f"score {scores.score:g} is outside the calibrated {low:g} to {high:g}")]
        return []

    def _deadline_findings(self, frame: Frame) -> Findings:
        limit, took_ms = self.limits.deadline_ms, (time.monotonic_ns() - frame.captured_ns) / 1e6
        if limit is None or took_ms <= limit:
            return []
        return [(Reason.DEADLINE, f"{took_ms:.1f} ms from capture to verdict, allowed are {limit:g} ms")]


class History:
    """What one frame cannot show: order, a camera that repeats itself, an engine that always answers the same."""

    def __init__(self, live: bool) -> None:
        self.live = live
        self._seq: int | None = None
        self._frame_id: str | None = None
        self._fingerprint: int | None = None
        self._changed = False  # the last picture differs from the one before
        self._answer: tuple[float, int] | None = None

    def findings(self, frame: Frame) -> Findings:
        """FRAME_ORDER and FRAME_REPEAT."""
        found: Findings = []
        if self._seq is not None and frame.seq <= self._seq:
            found.append((Reason.FRAME_ORDER, f"frame {frame.seq} came after frame {self._seq}"))
        self._seq = frame.seq
        if self.live and frame.image is not None:
            found += self._repeat(frame, fingerprint(frame.image))
        return found

    def stuck(self, scores: Scores) -> Findings:
        """Bit-equal answers to different pictures of a live source: the engine is not looking.

        The map belongs to the answer: scores that end in a sigmoid are exactly 1 for any two parts that are bad enough.
        """
        if not self.live:
            return []
        answer, last = (scores.score, fingerprint(scores.anomaly_map)), self._answer
        self._answer = answer
        if self._changed and answer == last:
            return [(Reason.OUTPUT_STUCK, f"score {scores.score:g} twice, bit for bit, for different pictures")]
        return []

    def _repeat(self, frame: Frame, print_: int) -> Findings:
        same_id, self._changed = frame.frame_id == self._frame_id, print_ != self._fingerprint
        first = self._fingerprint is None
        self._frame_id, self._fingerprint = frame.frame_id, print_
        if first or (self._changed and not same_id):
            return []
        what = f"frame id {frame.frame_id}" if same_id else "the same picture, noise included,"
        return [(Reason.FRAME_REPEAT, f"{what} came twice: the camera or its driver is stuck")]


def fingerprint(image: NDArray[np.generic]) -> int:
    """Checksum of 16 evenly spread rows: sensor noise makes it differ for any two exposures. Not for security."""
    checksum = zlib.crc32(str(image.shape).encode())
    for row in range(0, image.shape[0], max(1, image.shape[0] // _HASHED_ROWS)):
        checksum = zlib.crc32(image[row].tobytes(), checksum)
    return checksum


def format_findings(image: NDArray[np.generic], pixel_format: str, contract: Contract) -> Findings:
    """FRAME_FORMAT for a picture that does not fit the contract; it is never converted or resized silently."""
    problem = _format_problem(image, pixel_format, contract)
    return [(Reason.FRAME_FORMAT, problem)] if problem else []


def _format_problem(image: NDArray[np.generic], pixel_format: str, contract: Contract) -> str | None:
    if pixel_format != contract.pixel_format:
        return f"the engine needs {contract.pixel_format} frames, came {pixel_format}"
    channels = 1 if image.ndim == 2 else (image.shape[2] if image.ndim == 3 else 0)
    if image.dtype != np.uint8 or channels != _CHANNELS[pixel_format] or not image.size:
        return f"{pixel_format} needs uint8 of {_CHANNELS[pixel_format]} channels, came {image.dtype} {image.shape}"
    if image.strides[1:] != ((channels, 1) if image.ndim == 3 else (1,)):
        return "the pixels of a row must lie side by side: pass numpy.ascontiguousarray(frame)"
    return _geometry_problem(image, contract)


def _geometry_problem(image: NDArray[np.generic], contract: Contract) -> str | None:
    height, width = image.shape[:2]
    if contract.width not in (None, width) or contract.height not in (None, height):
        return f"the engine needs {contract.width}×{contract.height} px, came {width}×{height}"
    if contract.roi is not None:
        x, y, roi_width, roi_height = contract.roi
        if x + roi_width > width or y + roi_height > height:
            return f"the region of interest {contract.roi} does not fit into {width}×{height} px"
    return None


def _causes(scores: Scores, threshold: float) -> tuple[Reason, ...]:
    """The branches that are above the limit by themselves and not dwarfed by the other one; COMBINED when none is.

    The score is a mean of both branches, so a branch of a good part may well exceed the limit a little.
    """
    above = {
        Reason.STRUCTURAL_ABOVE_LIMIT: scores.structural - threshold,
        Reason.LOGICAL_ABOVE_LIMIT: scores.logical - threshold,
    }
    least = max(above.values()) / 2
    causes = tuple(reason for reason, margin in above.items() if margin > 0 and margin >= least)
    return causes or (Reason.COMBINED_ABOVE_LIMIT,)


_ORDER: dict[Reason, int] = {reason: place for place, reason in enumerate(Reason)}


def _unknown(found: Findings) -> Decision:
    ordered = sorted(found, key=lambda finding: _ORDER[finding[0]])
    reasons = tuple(dict.fromkeys(reason for reason, _ in ordered))
    return Decision(Verdict.UNKNOWN, reasons, "; ".join(detail for _, detail in ordered if detail))
