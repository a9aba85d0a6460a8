"""Measures an engine on a test set, through the same pipeline that runs on the line: bundle and records go in, figures come out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lad_edge.datasets import Dataset, Record, read_masks
from lad_edge.errors import DataError
from lad_edge.images import read_image
from lad_edge.inspector import Inspector
from lad_edge.metrics import PixelAuroc, auroc
from lad_edge.values import Frame, Result, Verdict

GOOD = "good"


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
    """Judge every test image and compute image AUROC per label, pixel AUROC, and the rates at the engine's threshold.

    Raises DataError if the test split lacks good or anomalous images.
    """
    test = dataset.select(split="test")
    if not any(r.label == GOOD for r in test) or not any(r.label != GOOD for r in test):
        raise DataError(
            f"{dataset.root}: expected good and anomalous test images, found {_counts(test)}; add them or point --data elsewhere"
        )
    started = time.monotonic()
    pixels = PixelAuroc()
    everything: list[Judged] = []
    for record in progress(test):
        everything.append(Judged(record, inspector.inspect(_frame(record, len(everything)))))
        _add_pixels(pixels, everything[-1])
    judged = tuple(one for one in everything if one.result.score is not None)
    metrics = _metrics(judged, pixels) | _rates(judged, inspector.threshold)
    metrics["seconds"] = round(time.monotonic() - started, 1)
    unjudged = tuple(one for one in everything if one.result.score is None)
    return Evaluation(judged, unjudged, metrics | {"images": _counts(test), "not_judged": len(unjudged)})


def _frame(record: Record, seq: int) -> Frame:
    image, pixel_format = read_image(record.path)
    return Frame(seq, record.path.name, image, pixel_format, time.monotonic_ns(), time.time_ns())


def _add_pixels(pixels: PixelAuroc, judged: Judged) -> None:
    """Good images count with an empty mask; anomalous images without a mask say nothing about pixels."""
    anomaly_map = judged.result.anomaly_map
    masks = read_masks(judged.record)
    if anomaly_map is None or (judged.record.label != GOOD and not masks):
        return
    mask = np.logical_or.reduce(masks) if masks else np.zeros(anomaly_map.shape, bool)
    pixels.add(resize_map(anomaly_map, mask.shape), mask)


def resize_map(anomaly_map: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The map at the size of the mask: bring maps to masks, never masks to maps."""
    height, width = shape
    resized: NDArray[np.float32] = cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized


def _metrics(judged: Sequence[Judged], pixels: PixelAuroc) -> dict[str, Any]:
    ordered = {rank: position for position, rank in enumerate(sorted({one.rank for one in judged}))}
    ranks = {
        label: [ordered[one.rank] for one in judged if one.record.label == label]
        for label in {o.record.label for o in judged}
    }
    good, labels = ranks.pop(GOOD, []), sorted(ranks)
    per_label = {label: round(auroc(good, ranks[label]), 4) for label in labels}
    found: dict[str, Any] = {"image_auroc": round(auroc(good, [r for label in labels for r in ranks[label]]), 4)}
    if len(per_label) > 1:
        found["image_auroc_mean"] = round(float(np.mean(list(per_label.values()))), 4)
    found["image_auroc_by_label"] = per_label
    if pixels.counts.sum(1).all():
        found["pixel_auroc"] = round(pixels.value(), 4)
    return found


def _rates(judged: Sequence[Judged], threshold: float) -> dict[str, Any]:
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
