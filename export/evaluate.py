"""Measures an engine on a test set, through the same pipeline that runs on the line: bundle and records go in, figures come out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lad_edge.datasets import Channel, Dataset, Record, read_channels
from lad_edge.errors import DataError
from lad_edge.images import read_image
from lad_edge.inspector import Inspector
from lad_edge.metrics import LIMITS, OverlapAreas, PixelAuroc, Region, Roi, auroc, components
from lad_edge.values import Frame, Result, Verdict

GOOD = "good"
PRO = "pro"


@dataclass(frozen=True)
class Judged:
    """One test image with its verdict."""

    record: Record
    result: Result

    @property
    def rank(self) -> tuple[float, float]:
        """Orders images: the score, then what the sigmoid of DFSC may have saturated (methods card §3.2)."""
        score, structural, logical = self.result.score, self.result.structural_score, self.result.logical_score
        return (score or 0.0, (structural or 0.0) + (logical or 0.0))


@dataclass(frozen=True)
class Evaluation:
    """All judged images, the figures, and the images that could not be judged."""

    judged: tuple[Judged, ...]
    unjudged: tuple[Judged, ...]
    metrics: dict[str, Any]


def evaluate(inspector: Inspector, dataset: Dataset, progress: Any = iter) -> Evaluation:
    """Judge every test image; figures of merit as metrics (methods card §12), the areas of curves between 0 and 1.

    image_auroc: good against all anomalous images; _by_label, and _mean over the labels. pixel_auroc and aupro_0.3: of
    all images, where there are masks. au_spro_by_label, and _mean over the labels: limit of the false positive rate →
    area, where a defects_config.json says what is enough of a defect. Then the rates at the engine's threshold. Pixels
    are those of the mask or, of a good image, of the image. Raises DataError if the test split lacks good or anomalous
    images, or a mask holds a defect that the config does not know.
    """
    test = dataset.select(split="test")
    if not any(r.label == GOOD for r in test) or not any(r.label != GOOD for r in test):
        raise DataError(
            f"{dataset.root}: expected good and anomalous test images, found {_counts(test)}; add them or point --data elsewhere"
        )
    started = time.monotonic()
    pixels = _Pixels(dataset, inspector.bundle.manifest.contract.roi)
    everything: list[Judged] = []
    for record in progress(test):
        frame = to_frame(record, len(everything))
        everything.append(Judged(record, inspector.inspect(frame)))
        pixels.add(everything[-1], frame)
    judged = tuple(one for one in everything if one.result.score is not None)
    metrics = image_metrics(judged) | pixels.metrics() | rates(judged, inspector.threshold)
    metrics["seconds"] = round(time.monotonic() - started, 1)
    unjudged = tuple(one for one in everything if one.result.score is None)
    return Evaluation(judged, unjudged, metrics | {"images": _counts(test), "not_judged": len(unjudged)})


def to_frame(record: Record, seq: int) -> Frame:
    """A test image as if it had just been captured."""
    image, pixel_format = read_image(record.path)
    return Frame(seq, record.path.name, image, pixel_format, time.monotonic_ns(), time.time_ns())


def _where(roi: Roi | None, moved_px: tuple[int, int] | None) -> Roi | None:
    """The region of the frame that was looked at: it may have followed the part."""
    if roi is None or moved_px is None:
        return roi
    return roi[0] + moved_px[0], roi[1] + moved_px[1], roi[2], roi[3]


class _Pixels:
    """What is measured pixel by pixel."""

    def __init__(self, dataset: Dataset, roi: Roi | None) -> None:
        self.roi = roi
        self.auroc, self.overlap = PixelAuroc(), OverlapAreas()
        self.defects = {defect.pixel_value: defect for defect in dataset.defects}
        labels = {record.label for record in dataset.select(split="test")} - {GOOD}
        self.spro = tuple(sorted(labels)) if self.defects else ()

    def add(self, judged: Judged, frame: Frame) -> None:
        """Good images count with an empty mask; anomalous images without a mask say nothing about pixels."""
        anomaly_map, record = judged.result.anomaly_map, judged.record
        channels = read_channels(record)
        if anomaly_map is None or frame.image is None or (record.label != GOOD and not channels):
            return
        empty = np.zeros(channels[0].mask.shape if channels else frame.image.shape[:2], bool)
        mask = np.logical_or.reduce([empty, *(channel.mask for channel in channels)])
        regions: dict[str, list[Region]] = {PRO: components(mask)}
        for label in self.spro:
            if record.label in (GOOD, label):
                regions[label] = [self._region(record, channel) for channel in channels]
        roi = _where(self.roi, judged.result.moved_px)
        self.auroc.add(self.overlap.add(anomaly_map, mask, regions, roi), mask)

    def _region(self, record: Record, channel: Channel) -> Region:
        defect, pixels = self.defects.get(channel.pixel_value), np.flatnonzero(channel.mask)
        if defect is None or not len(pixels):
            raise DataError(
                f"{record.path}: expected masks with a value of defects_config.json ({sorted(self.defects)}), "
                f"found {channel.pixel_value}; restore the masks or the config"
            )
        return Region(pixels, defect.saturation_px(len(pixels)))

    def metrics(self) -> dict[str, Any]:
        """Empty without masks."""
        if not self.auroc.counts.sum(1).all():
            return {}
        areas = self.overlap.areas()
        found = {"pixel_auroc": round(self.auroc.value(), 4), "aupro_0.3": round(areas.pop(PRO)[0.3], 4)}
        if not areas:
            return found
        mean = {limit: float(np.mean([curve[limit] for curve in areas.values()])) for limit in LIMITS}
        by_label = {label: _rounded(curve) for label, curve in sorted(areas.items())}
        return found | ({"au_spro_mean": _rounded(mean)} if len(areas) > 1 else {}) | {"au_spro_by_label": by_label}


def _rounded(areas: Mapping[float, float]) -> dict[str, float]:
    return {f"{limit:g}": round(area, 4) for limit, area in areas.items()}


def ranks_by_label(judged: Sequence[Judged]) -> dict[str, list[int]]:
    """Label → the place of each of its images in the order of all of them; equal ones share a place."""
    ordered = {rank: position for position, rank in enumerate(sorted({one.rank for one in judged}))}
    ranks: dict[str, list[int]] = {}
    for one in judged:
        ranks.setdefault(one.record.label, []).append(ordered[one.rank])
    return ranks


def image_metrics(judged: Sequence[Judged]) -> dict[str, Any]:
    """Image AUROC of all, by label, and of several labels the mean. Raises DataError without good or anomalous images."""
    ranks = ranks_by_label(judged)
    good, labels = ranks.pop(GOOD, []), sorted(ranks)
    per_label = {label: round(auroc(good, ranks[label]), 4) for label in labels}
    found: dict[str, Any] = {"image_auroc": round(auroc(good, [r for label in labels for r in ranks[label]]), 4)}
    if len(per_label) > 1:
        found["image_auroc_mean"] = round(float(np.mean(list(per_label.values()))), 4)
    return found | {"image_auroc_by_label": per_label}


def rates(judged: Sequence[Judged], threshold: float) -> dict[str, Any]:
    """What the threshold does: shares of good parts rejected and of anomalous parts passed."""
    good = [one for one in judged if one.record.label == GOOD]
    bad = [one for one in judged if one.record.label != GOOD]
    rejected = sum(one.result.verdict is not Verdict.OK for one in good)
    passed = sum(one.result.verdict is Verdict.OK for one in bad)
    return {
        "threshold": threshold,
        "false_rejects": f"{rejected} of {len(good)}",
        "misses": f"{passed} of {len(bad)}",
    }


def _counts(records: Iterable[Record]) -> dict[str, int]:
    labels = [record.label for record in records]
    return {label: labels.count(label) for label in sorted(set(labels))}
