"""Calibration through the exported graph, the runtime of the edge and the native kernels: never through a second implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lad_edge import thresholds
from lad_edge.bundle import Calibration, Contract, Policy
from lad_edge.errors import DataError
from lad_edge.kernels import quantiles
from lad_edge.runtime import Runtime
from lad_edge.scoring import SCORERS
from lad_edge.scoring.efficient_ad import EfficientAdScorer

Image = NDArray[np.uint8]
LOW, HIGH = 0.9, 0.995  # of all cells of all raw validation maps (methods card §2.6, decision E-2)
BRANCHES = ("structural", "logical")
UNIT = dict.fromkeys(BRANCHES, (0.0, 0.1))  # leaves raw maps as they are
ENVELOPE_SLACK = 1e4  # an image score this many threshold distances beyond the good ones is an engine fault, not a part


@dataclass(frozen=True)
class Measured:
    """A calibration with its tensors: sorted validation scores and the scores of the golden frames."""

    calibration: Calibration
    scores: NDArray[np.float64]
    golden_scores: NDArray[np.float64]

    def tensors(self) -> dict[str, NDArray[np.float64]]:
        """By the names that the calibration gives them."""
        return {self.calibration.scores: self.scores, self.calibration.golden_scores: self.golden_scores}


@dataclass(frozen=True)
class Answers:
    """What one implementation says of n images. scores: (n,); maps: (n, 2, h, w), the raw maps by branch."""

    scores: NDArray[np.float64]
    maps: NDArray[np.float32]


@dataclass(frozen=True)
class Pipeline:
    """What a scorer needs beside the calibration."""

    detector: str
    contract: Contract
    parameters: Mapping[str, Any]
    runtime: Runtime

    def answer(self, images: Sequence[Image], normalisation: Mapping[str, tuple[float, float]]) -> Answers:
        """What the edge computes of `images`; the raw maps do not depend on the normalisation."""
        scorers = _ByShape(self, normalisation)
        scores, maps = [], []
        for image in images:
            scorer = scorers.of(image)
            scorer.enqueue(image)
            scores.append(scorer.wait().score)
            maps.append(scorer.maps[0].copy())
        return Answers(np.array(scores, np.float64), np.stack(maps))


class _ByShape:
    """One scorer for each geometry that occurs."""

    def __init__(self, pipeline: Pipeline, normalisation: Mapping[str, tuple[float, float]]) -> None:
        self.pipeline, self.normalisation = pipeline, normalisation
        self.scorers: dict[tuple[int, ...], EfficientAdScorer] = {}

    def of(self, image: Image) -> EfficientAdScorer:
        if image.shape not in self.scorers:
            p = self.pipeline
            made = SCORERS[p.detector](
                p.contract, p.parameters, self.normalisation, p.runtime, image.shape, p.contract.pixel_format
            )
            assert isinstance(made, EfficientAdScorer)  # noqa: S101 - the only scorer of this version
            self.scorers[image.shape] = made
        return self.scorers[image.shape]


def calibrate(
    pipeline: Pipeline, validation: Sequence[Image], golden: Sequence[Image], policy: tuple[str, float]
) -> Measured:
    """Quantiles on raw maps, then image scores, then the threshold that the policy states.

    Raises DataError without validation images, for non-finite maps, and if the policy promises more than the images can carry.
    """
    if len(validation) < 2:
        raise DataError(
            f"calibration needs at least 2 good validation images, found {len(validation)}; 50 and more serve well"
        )
    normalisation = normalise(pipeline.answer(validation, UNIT).maps)
    scores = np.sort(pipeline.answer(validation, normalisation).scores)
    threshold = thresholds.choose(scores, *policy)
    reach = ENVELOPE_SLACK * max(abs(threshold.value), float(np.ptp(scores)), 1e-6)
    precision = pipeline.runtime.precision
    calibration = Calibration(
        runtime=f"{pipeline.runtime.name}-{_word(pipeline.runtime.version)}",
        normalisation=normalisation,
        threshold=threshold.value,
        policy=Policy(threshold.policy, threshold.parameter, threshold.n, threshold.statement),
        scores=f"calibration/{precision}/scores",
        envelope=(float(scores[0]) - reach, float(scores[-1]) + reach),
        golden_scores=f"golden/{precision}/scores",
    )
    return Measured(calibration, scores, pipeline.answer(golden, normalisation).scores)


def normalise(raw_maps: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    """The 0.9 and 0.995 quantiles per branch over all cells of all maps (n, 2, h, w)."""
    found = {}
    for index, branch in enumerate(BRANCHES):
        cells = [np.ascontiguousarray(maps[index]) for maps in raw_maps]
        if not np.isfinite(raw_maps[:, index]).all():
            raise DataError(
                f"the {branch} maps of the validation images hold NaN or Inf; the training diverged: train again with a smaller --lr"
            )
        low, high = quantiles(cells, (LOW, HIGH))
        found[branch] = (float(low), float(high))
    return found


def _word(version: str) -> str:
    return "".join(c if c.isalnum() or c in "._" else "-" for c in version.split("-")[0])[:32]
