"""How much of each defect is found at how many false pixels: areas under the PRO and sPRO curves of a test set, exact.

For a threshold t the prediction P is {score > t}. The curve is the mean overlap of the regions, min(|A ∩ P| / s, 1) with
the saturation area s of a region A, over the share of the good pixels that are in P. With s = |A| for the connected
components of the masks it is PRO (Bergmann et al., IJCV 2021, §5.1); with s from `defects_config.json` for each defect
channel it is sPRO (Bergmann et al., IJCV 2022, eq. 1; methods card §12.3-4).

Exact: the curve through the points of all thresholds rises only at scores of the s highest pixels of each region. Where
such a score is tied with good pixels the curve is a slope, elsewhere a step; so it is enough to count, for each of these
scores, the good pixels that equal it and those up to the next one. Good pixels are never all in memory: maps stay at the
size in which they come, and are resized a second time for counting.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from lad_edge.errors import DataError
from lad_edge.metrics._curves import areas, count_good
from lad_edge.metrics.maps import Roi, from_ordered_bits, ordered_bits, resize_map

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
_BATCH = 1 << 25  # good pixels that are sorted together: 128 MiB
_MOST_GOOD = (1 << 32) - 1  # what the counters hold


class Region(NamedTuple):
    """One thing to find: pixels (n,), flat indices into the image; saturation_px: how many of them are enough."""

    pixels: NDArray[np.intp]
    saturation_px: int


def components(mask: NDArray[np.bool_]) -> list[Region]:
    """The connected components of a mask (H, W), 8-neighbourhood, each to be found whole (methods card §12.3)."""
    _, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    marked = np.flatnonzero(mask)
    label_of = labels.ravel()[marked]
    order = np.argsort(label_of, kind="stable")
    ends = np.cumsum(np.bincount(label_of)[1:])
    return [Region(pixels, len(pixels)) for pixels in np.split(marked[order], ends[:-1])] if len(marked) else []


class OverlapAreas:
    """Areas under any number of overlap curves over the same images, one for each kind of region.

    Memory in bytes: 4 for each pixel of a region that is not beyond its saturation; in `areas` 16 more, for one curve at
    a time; 1/8 for each pixel of a masked image; the maps as they come; 128 Mi for sorting. 300 images of 1600 × 1280 px
    with a tenth of the pixels marked take 1.5 GB for PRO and both sPRO (`python -m benchmarks.overlap`).
    """

    def __init__(self) -> None:
        self._curves: dict[str, _Curve] = defaultdict(_Curve)
        self._images: dict[str, list[_Image]] = defaultdict(list)

    def add(
        self,
        anomaly_map: NDArray[np.float32],
        mask: NDArray[np.bool_],
        regions: Mapping[str, Sequence[Region]],
        roi: Roi | None = None,
    ) -> NDArray[np.float32]:
        """Take one image. Returns its map at the size of the mask.

        anomaly_map: (h, w), resized to the mask, or placed at `roi` of it. mask: (H, W), True where any defect is; the
        others are the good pixels of all curves in `regions`. regions: for each curve that the image belongs to, what
        is to be found in it, nothing in a good image. Raises DataError for scores that are not finite or a region
        without a pixel or a saturation.
        """
        if not np.isfinite(anomaly_map).all():
            raise DataError("the anomaly map holds NaN or Inf; the engine or the training is broken")
        full = resize_map(anomaly_map, mask.shape, roi)
        for name, found in regions.items():
            for region in found:
                self._curves[name].add(full.ravel()[region.pixels], region.saturation_px)
        image = _Image.of(anomaly_map, mask, roi)
        for name in regions:
            self._images[name].append(image)
        return full

    def areas(self, limits: Sequence[float] = LIMITS) -> dict[str, dict[float, float]]:
        """For each curve with regions: limit of the false positive rate, in (0, 1] → area up to it, divided by it.

        Closes the collection. Raises DataError for other limits or where a curve has no good pixels.
        """
        if not all(0 < limit <= 1 for limit in limits):
            raise DataError(f"expected limits of the false positive rate in (0, 1], got {limits}")
        return {name: self._areas(name, limits) for name in sorted(self._curves)}

    def _areas(self, name: str, limits: Sequence[float]) -> dict[float, float]:
        """One curve after the other: resizing and sorting again takes less than the memory for all at once is worth."""
        counted = _Counted.of(self._curves.pop(name))
        for good in _sorted_batches(self._images.pop(name)):
            counted.count(good)
        return counted.areas(limits)


@dataclass
class _Curve:
    """The regions of one curve: the float32 scores of each that count, one region after the other, and how many."""

    scores: bytearray = field(default_factory=bytearray)  # grows in place
    saturations: list[int] = field(default_factory=list)

    def add(self, scores: NDArray[np.float32], saturation_px: int) -> None:
        """Only the `saturation_px` highest can raise the curve; ties at the border are of one value, whichever stay."""
        if not 0 < saturation_px <= len(scores):
            raise DataError(f"expected a saturation of 1 to {len(scores)} px of a region, got {saturation_px}")
        beyond = len(scores) - saturation_px
        self.scores += (np.partition(scores, beyond)[beyond:] if beyond else scores).tobytes()
        self.saturations.append(saturation_px)


@dataclass
class _Counted:
    """The scores of all regions of a curve in ascending order, with the region of each and the good pixels around it."""

    scores: NDArray[np.float32]
    regions: NDArray[np.uint32]
    weights: NDArray[np.float64]
    below: NDArray[np.uint32]
    ties: NDArray[np.uint32]
    good_px: int = 0

    @classmethod
    def of(cls, curve: _Curve) -> _Counted:
        """Sorts score and region together, as one number; empties the curve."""
        scores = np.frombuffer(curve.scores, np.float32)
        packed = np.empty(len(scores), np.uint64)
        ends = np.cumsum(curve.saturations)
        for number, (end, saturation) in enumerate(zip(ends, curve.saturations, strict=True)):
            one = slice(end - saturation, end)
            packed[one] = (ordered_bits(scores[one]).astype(np.uint64) << np.uint64(32)) | np.uint64(number)
        del scores
        curve.scores.clear()
        packed.sort()
        regions = packed.astype(np.uint32)
        packed >>= np.uint64(32)
        keys = packed.astype(np.uint32)
        del packed
        weights = 1 / (np.array(curve.saturations, np.float64) * len(curve.saturations))
        below, ties = np.zeros_like(keys), np.zeros_like(keys)
        return cls(from_ordered_bits(keys), regions, weights, below, ties)

    def count(self, good: NDArray[np.float32]) -> None:
        """Take good scores (n,) in ascending order."""
        self.good_px += len(good)
        if self.good_px > _MOST_GOOD:
            raise DataError(f"expected at most {_MOST_GOOD} good pixels; measure on fewer or smaller images")
        count_good(good, self.scores, self.below, self.ties)

    def areas(self, limits: Sequence[float]) -> dict[float, float]:
        if not self.good_px:
            raise DataError("overlap curves need good pixels; the masks cover every image")
        widths = np.array(limits, np.float64) * self.good_px
        found = areas(self.scores, self.regions, self.weights, self.below, self.ties, self.good_px, widths) / widths
        return dict(zip(limits, found.tolist(), strict=True))


@dataclass(frozen=True)
class _Image:
    """What is kept of an image until its good pixels are counted. bits: the mask, packed; none if it is empty."""

    anomaly_map: NDArray[np.float32]
    shape: tuple[int, ...]
    roi: Roi | None
    bits: NDArray[np.uint8] | None

    @classmethod
    def of(cls, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], roi: Roi | None) -> _Image:
        return cls(anomaly_map, mask.shape, roi, np.packbits(mask) if mask.any() else None)

    def good_scores(self) -> NDArray[np.float32]:
        full = resize_map(self.anomaly_map, self.shape, self.roi).ravel()
        return full if self.bits is None else full[np.unpackbits(self.bits, count=len(full)) == 0]


def _sorted_batches(images: Sequence[_Image]) -> Iterator[NDArray[np.float32]]:
    """The good scores of all images, each batch in ascending order; a batch holds until the next one is asked for."""
    buffer = np.empty(min(_BATCH, sum(int(np.prod(image.shape)) for image in images)), np.float32)
    filled = 0
    for image in images:
        scores = image.good_scores()
        while len(scores):
            taken = scores[: len(buffer) - filled]
            buffer[filled : filled + len(taken)] = taken
            filled, scores = filled + len(taken), scores[len(taken) :]
            if filled == len(buffer):
                buffer.sort()
                yield buffer
                filled = 0
    buffer[:filled].sort()
    yield buffer[:filled]
