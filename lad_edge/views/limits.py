"""Pictures of good parts go in, the limits of the picture gate come out; then frames go in, and what speaks against judging them comes out.

Each limit lies beyond every good part, by the distance from their median to the outermost of them, times 1 + 150 / n² because few parts
show less than their whole spread, and by a least margin. Of normally distributed values a limit refuses 1 in 200 for n = 5 and 1 in 1500
for n = 25. Without any such assumption, at most 1 in n + 1 lies beyond the outermost (conformal prediction), fewer beyond the limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lad_edge.bundle import Gates
from lad_edge.values import Reason
from lad_edge.views.placement import REACH, Placement, Shift, small_grey
from lad_edge.views.quality import SATURATED_LEVEL, Quality, measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lad_edge.bundle import Bundle

FEWEST = 5  # good parts that say what is usual
_COLUMNS = 7  # of what is kept of each part: `Quality` but its mean grey, and `Shift`
# Least margins beyond the outermost good part: ratios, and shares of the pixels and of a side.
DARKER, FLATTER, BLURRIER, MORE_SATURATED, FARTHER = 0.75, 0.75, 0.7, 0.02, 0.04
_FEW = 150
_MEAN, _MEASURED = "views/mean", "views/measured"


class Fitted(NamedTuple):
    """The limits, and the tensors that they name."""

    gates: Gates
    tensors: dict[str, NDArray[Any]]


class GoodViews:
    """Collects what pictures of good parts look like."""

    def __init__(self, known: Bundle | None = None) -> None:
        """known: an engine with gates to go on with; its parts count."""
        self._qualities: list[Quality] = []
        self._small: list[NDArray[np.uint8]] = []
        self._mean = np.zeros((0, 0), np.float32)
        self._known = np.zeros((0, _COLUMNS), np.float32)
        if known is not None and known.manifest.gates is not None:
            gates = known.manifest.gates
            self._mean, self._known = known.tensors[gates.mean], known.tensors[gates.measured]

    def add(self, inspected: NDArray[np.uint8]) -> Quality:
        """The inspected region of one good part's picture, (H, W, 3) BGR or (H, W) grey."""
        small = small_grey(inspected)
        quality = measure(inspected, small)
        self._qualities.append(quality)
        self._small.append(small)
        return quality

    def fit(self) -> Fitted | None:
        """The limits; None for fewer than FEWEST parts."""
        parts = len(self._known) + len(self._small)
        if parts < FEWEST:
            return None
        measured = np.concatenate([self._known, self._measured()])
        tensors = {_MEAN: (self._sum() / parts).astype(np.float32), _MEASURED: measured}
        return Fitted(_limits(measured), tensors)

    def _sum(self) -> NDArray[np.float64]:
        total = np.sum(self._small, axis=0, dtype=np.float64) if self._small else 0.0
        return np.asarray(total + len(self._known) * self._mean.astype(np.float64) if len(self._known) else total)

    def _measured(self) -> NDArray[np.float32]:
        """(new parts, 6). The shift of each part is that against the mean picture of all others."""
        total, others = self._sum(), len(self._known) + len(self._small) - 1
        rows = [
            (*quality[1:], *Placement(((total - small) / others).astype(np.float32))(small))
            for quality, small in zip(self._qualities, self._small, strict=True)
        ]
        return np.array(rows, np.float32).reshape(-1, _COLUMNS)


class PictureGate:
    """Says what is wrong with a picture, before any network sees it."""

    def __init__(self, gates: Gates, tensors: Mapping[str, NDArray[Any]]) -> None:
        self.gates = gates
        self.placement = Placement(tensors[gates.mean])

    def findings(self, inspected: NDArray[np.uint8]) -> list[tuple[Reason, str]]:
        """Reasons against the inspected region of a frame, (H, W, 3) BGR or (H, W) grey: what was measured, the limit, what to look at."""
        small = small_grey(inspected)
        return [*self._quality_findings(measure(inspected, small)), *self._place_findings(self.placement(small))]

    def _quality_findings(self, found: Quality) -> list[tuple[Reason, str]]:
        gates, reasons = self.gates, []
        if not (
            found.brightness >= gates.brightness or found.median >= gates.median
        ):  # a part that lacks something bright is no lamp's fault
            words = f"the brightest 5 % of the pixels reach grey {found.brightness:.0f}, at least {gates.brightness:.0f} are needed"
            reasons.append((Reason.FRAME_DARK, f"{words}: look at lamp, aperture and exposure"))
        if not found.saturated <= gates.saturated:
            words = f"{found.saturated:.1%} of the pixels are white ({SATURATED_LEVEL} and more), at most {gates.saturated:.1%} may be"
            reasons.append((Reason.FRAME_SATURATED, f"{words}: look at exposure, gain and reflections"))
        if not found.contrast >= gates.contrast:
            words = f"contrast {found.contrast:.3f}, at least {gates.contrast:.3f} is needed"
            reasons.append((Reason.FRAME_FLAT, f"{words}: is there a part, and is the lens free"))
        if not found.sharpness >= gates.sharpness:
            words = f"sharpness {found.sharpness:.3f}, at least {gates.sharpness:.3f} is needed"
            reasons.append((Reason.FRAME_BLURRED, f"{words}: look at the lens, its focus, and whether the part moves"))
        return reasons

    def _place_findings(self, found: Shift) -> list[tuple[Reason, str]]:
        limits = self.gates.shift
        if limits is None or (abs(found.x) <= limits[0] and abs(found.y) <= limits[1]):
            return []
        words = (
            f"the part lies {_in_words(found)} of its place, at most {limits[0]:.1%} and {limits[1]:.1%} are allowed"
        )
        return [(Reason.PART_MISPLACED, f"{words}: look at the fixture, the trigger and the camera's mount")]


def _limits(measured: NDArray[np.float32]) -> Gates:
    median, brightness, saturated, contrast, sharpness, *shift = measured.astype(np.float64).T
    farthest = [_beyond(np.abs(along), FARTHER) for along in shift]
    return Gates(
        median=_below(median, DARKER),
        brightness=_below(brightness, DARKER),
        saturated=_beyond(saturated, MORE_SATURATED),
        contrast=_below(contrast, FLATTER),
        sharpness=_below(sharpness, BLURRIER),
        shift=(farthest[0], farthest[1]) if max(farthest) < REACH - FARTHER else None,
        mean=_MEAN,
        measured=_MEASURED,
        n=len(measured),
        statement=(
            f"beyond all n = {len(measured)} good parts by the distance from their median to the outermost, times 1 + {_FEW}/n², "
            "and by a least margin"
        ),
    )


def _beyond(values: NDArray[np.float64], margin: float) -> float:
    """An upper limit."""
    outermost = float(values.max())
    return outermost + max((outermost - float(np.median(values))) * (1 + _FEW / len(values) ** 2), margin)


def _below(values: NDArray[np.float64], ratio: float) -> float:
    """A lower limit, by the same rule for logarithms."""
    return float(np.exp(-_beyond(-np.log(np.maximum(values, 1e-6)), -np.log(ratio))))


def _in_words(shift: Shift) -> str:
    across, down = "right" if shift.x > 0 else "left", "below" if shift.y > 0 else "above"
    return f"{abs(shift.x):.1%} to the {across} and {abs(shift.y):.1%} {down}"
