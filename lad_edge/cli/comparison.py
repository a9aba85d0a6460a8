"""Two engines and a test set go in; who is right where, and how sure their difference is, comes out."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lad_edge.errors import DataError
from lad_edge.export.evaluate import GOOD, Judged, image_metrics, ranks_by_label, rates, to_frame
from lad_edge.metrics import auroc_difference
from lad_edge.values import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lad_edge.datasets import Dataset, Record
    from lad_edge.inspector import Inspector

    Two = tuple[Inspector, Inspector]

NAMES = ("A", "B")
ALL = "all"


@dataclass(frozen=True)
class Pair:
    """One test image and what each engine says of it; the maps are kept only where the verdicts differ."""

    record: Record
    results: tuple[Result, Result]

    @property
    def differs(self) -> bool:
        """Whether the verdicts differ."""
        return self.results[0].verdict is not self.results[1].verdict

    @property
    def right(self) -> tuple[bool, bool]:
        """Of each engine: whether a good part was released, or another one was not."""
        first, second = ((result.verdict is Verdict.OK) == (self.record.label == GOOD) for result in self.results)
        return first, second


@dataclass(frozen=True)
class Compared:
    """Pairs of all images that both engines could score; lines on those that could not be read, or scored by one of them."""

    pairs: Sequence[Pair]
    left_out: Sequence[str]

    def judged(self, side: int) -> list[Judged]:
        """What one engine said."""
        return [Judged(pair.record, pair.results[side]) for pair in self.pairs]


def judge(two: Two, dataset: Dataset) -> Compared:
    """Both engines judge every test image. Raises DataError if there is none that both can score."""
    pairs: list[Pair] = []
    left_out: list[str] = []
    records = dataset.select(split="test")
    for seq, record in enumerate(records, 1):
        _progress(seq, len(records))
        try:
            frame = to_frame(record, seq)
        except DataError as exc:
            left_out.append(str(exc))
            continue
        pair = Pair(record, (two[0].inspect(frame), two[1].inspect(frame)))
        unscored = next((result for result in pair.results if result.score is None), None)
        if unscored is None:
            pairs.append(pair if pair.differs else _without_maps(pair))
        else:
            left_out.append(f"{record.path}: {unscored.detail}")
    if not pairs:
        why = left_out[0] if left_out else "it has none; name the folder that holds test/"
        raise DataError(f"{dataset.root}: expected test images that both engines can judge; {why}")
    return Compared(pairs, left_out)


def describe(two: Two, dataset: Dataset, compared: Compared) -> dict[str, Any]:
    """Everything but the latency, for JSON. "auroc_difference": the second engine's minus the first's; {} without anomalous images."""
    pairs = compared.pairs
    return {
        "data": dataset.category,
        "images": dict(Counter(pair.record.label for pair in pairs)),
        "left_out": list(compared.left_out),
        "engines": [_engine(inspector, compared.judged(side)) for side, inspector in enumerate(two)],
        "auroc_difference": _differences(compared) if _both_kinds(pairs) else {},
        "interval": "95 %, DeLong, DeLong and Clarke-Pearson 1988",
        "right": {
            "both": sum(all(pair.right) for pair in pairs),
            "first_alone": sum(pair.right == (True, False) for pair in pairs),
            "second_alone": sum(pair.right == (False, True) for pair in pairs),
            "neither": sum(not any(pair.right) for pair in pairs),
        },
        "disagreements": [_disagreement(pair) for pair in pairs if pair.differs],
    }


def _progress(seq: int, count: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{seq} of {count} images", end="\n" if seq == count else "", file=sys.stderr, flush=True)


def _without_maps(pair: Pair) -> Pair:
    """A long test set must fit into memory."""
    first, second = (replace(result, anomaly_map=None) for result in pair.results)
    return Pair(pair.record, (first, second))


def _both_kinds(pairs: Sequence[Pair]) -> bool:
    return len({pair.record.label == GOOD for pair in pairs}) == 2


def _engine(inspector: Inspector, judged: Sequence[Judged]) -> dict[str, Any]:
    manifest, runtime = inspector.bundle.manifest, inspector.runtime
    known = {
        "path": str(inspector.bundle.path),
        "sha256": inspector.bundle.sha256,
        "name": manifest.name,
        "detector": manifest.detector,
        "runtime": f"{runtime.name} {runtime.version}",
        "precision": runtime.precision,
        "threads": runtime.threads,
    }
    kinds = {one.record.label == GOOD for one in judged}
    return known | (image_metrics(judged) if len(kinds) == 2 else {}) | rates(judged, inspector.threshold)


def _differences(compared: Compared) -> dict[str, Any]:
    """Label, and all together → the difference of the AUROCs and its interval."""
    first, second = (ranks_by_label(compared.judged(side)) for side in (0, 1))
    labels = sorted(first.keys() - {GOOD})
    wanted = {label: [label] for label in labels} | ({ALL: labels} if len(labels) > 1 else {})
    found = {}
    for name, members in wanted.items():
        anomalous = [[rank for label in members for rank in ranks[label]] for ranks in (first, second)]
        difference = auroc_difference([first[GOOD], second[GOOD]], anomalous)
        interval = difference.interval and [round(edge, 4) for edge in difference.interval]
        found[name] = {"value": round(difference.value, 4), "interval": interval}
    return found


def _disagreement(pair: Pair) -> dict[str, Any]:
    return {
        "image": str(pair.record.path),
        "label": pair.record.label,
        "defect_type": pair.record.defect_type,
        "right": [name for name, right in zip(NAMES, pair.right, strict=True) if right],
        "verdicts": [result.verdict.value for result in pair.results],
        "scores": [result.score for result in pair.results],
        "findings": [list(result.findings) for result in pair.results],
    }
