"""Calibration through the exported graph, the runtime of the edge and the native kernels: never through a second implementation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lad_edge.export.exporter import Exported, Exporter, Raw, place_levels, usual_peaks
from numpy.typing import NDArray

from lad_edge import thresholds
from lad_edge.bundle import Calibration, Contract, Policy
from lad_edge.errors import DataError
from lad_edge.runtime import Runtime, stated
from lad_edge.scoring import FrameScorer, Normalisation, Setup, open_on_best_line

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Measured:
    """A calibration with its tensors: validation scores, the scores of the golden frames, and levels of the places if measured."""

    calibration: Calibration
    validation_scores: NDArray[np.float64]  # in the order of the images
    golden_scores: NDArray[np.float64]
    places: NDArray[np.float32] | None

    @property
    def normalisation(self) -> Normalisation:
        """As the scorers take it."""
        return Normalisation(self.calibration.normalisation, self.places)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """By the names that the calibration gives them."""
        names = self.calibration
        places = {} if names.places is None or self.places is None else {names.places: self.places}
        return {names.scores: np.sort(self.validation_scores), names.golden_scores: self.golden_scores, **places}


@dataclass(frozen=True)
class Answers:
    """What one implementation says of n images. scores: (n,); raw: branch → (n, h, w), before normalisation."""

    scores: NDArray[np.float64]
    raw: Raw


@dataclass(frozen=True)
class Pipeline:
    """What a scorer needs beside the calibration."""

    detector: str
    contract: Contract
    parts: Exported
    runtime: Runtime

    def answer(self, images: Iterable[Image], normalisation: Normalisation) -> Answers:
        """What the edge computes of `images`; the raw maps do not depend on the normalisation."""
        scorers: dict[tuple[int, ...], FrameScorer] = {}
        scores: list[float] = []
        raw: dict[str, list[NDArray[np.float32]]] = {}
        for image in images:
            if image.shape not in scorers:
                scorers[image.shape] = self._scorer(image.shape, normalisation)
            scorer = scorers[image.shape]
            scorer.enqueue(image)
            scores.append(scorer.wait().score)
            for branch, values in scorer.raw.items():
                raw.setdefault(branch, []).append(values.copy())
        return Answers(np.array(scores, np.float64), {branch: np.stack(values) for branch, values in raw.items()})

    def _scorer(self, shape: tuple[int, ...], normalisation: Normalisation) -> FrameScorer:
        setup = Setup(
            contract=self.contract,
            parameters=self.parts.parameters,
            normalisation=normalisation,
            runtime=self.runtime,
            frame_shape=shape,
            pixel_format=self.contract.pixel_format,
            tables=self.parts.tables,
        )
        return open_on_best_line(self.detector, setup)


def calibrate(
    pipeline: Pipeline,
    exporter: Exporter,
    validation: Sequence[Image],
    golden: Sequence[Image],
    policy: tuple[str, float],
    training: Iterable[Image] | None = None,
) -> Measured:
    """Levels of the raw maps, then image scores, then the threshold that the policy states.

    training: with them, each place of the raw maps is judged by `place_levels` of these images. They are not the validation images, on
    whose scores the threshold rests, so its statement holds.
    Raises DataError without validation images, for non-finite maps, and if the policy promises more than the images can carry.
    """
    if len(validation) < 2:
        raise DataError(
            f"calibration needs at least 2 good validation images, found {len(validation)}; 50 and more serve well"
        )
    parameters = pipeline.parts.parameters
    branches = exporter.branches(parameters)
    as_it_comes = Normalisation(dict.fromkeys(branches, (0.0, 0.1)))
    raw = pipeline.answer(validation, as_it_comes).raw
    if training is None:
        normalisation = Normalisation(exporter.normalise(raw, pipeline.contract.size, parameters))
    else:
        places = place_levels(pipeline.answer(training, as_it_comes).raw)
        normalisation = Normalisation(usual_peaks(raw, places), places)
    in_order = pipeline.answer(validation, normalisation).scores
    scores = np.sort(in_order)
    threshold = thresholds.choose(scores, *policy)
    precision = pipeline.runtime.precision
    calibration = Calibration(
        runtime=stated(pipeline.runtime),
        normalisation=normalisation.levels,
        threshold=threshold.value,
        policy=Policy(threshold.policy, threshold.parameter, threshold.n, threshold.statement),
        scores=f"calibration/{precision}/scores",
        envelope=thresholds.envelope(scores, threshold.value),
        golden_scores=f"golden/{precision}/scores",
        places=None if training is None else f"calibration/{precision}/places",
    )
    return Measured(calibration, in_order, pipeline.answer(golden, normalisation).scores, normalisation.places)
