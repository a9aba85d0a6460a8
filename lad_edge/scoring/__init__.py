"""Edge half of each detector: pixels of a frame go in, an anomaly map and a score come out; graphs run behind `GraphRunner`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lad_edge.bundle import Bundle, Calibration, Manifest
from lad_edge.errors import EngineError
from lad_edge.scoring.efficient_ad import EfficientAdScorer
from lad_edge.values import Scores


class GraphRunner(Protocol):
    """Whatever runs a graph by its role, on buffers of the caller."""

    @property
    def precision(self) -> str:
        """Arithmetic of the engine, such as "f32" or "bf16"; calibrations are kept per precision."""
        ...

    def run(self, graph: str, **buffers: NDArray[np.float32]) -> None:
        """Read the inputs, write the outputs."""
        ...


class Scorer(Protocol):
    """Straight-line code over preallocated buffers: `enqueue` starts a frame, `wait` returns what it found."""

    def enqueue(self, image: NDArray[Any]) -> None:
        """Start scoring one frame of the geometry that the scorer was opened for."""
        ...

    def wait(self) -> Scores:
        """The scores of the frame enqueued last."""
        ...


SCORERS: dict[str, Callable[..., Scorer]] = {"efficient_ad": EfficientAdScorer, "dfsc": EfficientAdScorer}


def open_scorer(bundle: Bundle, runtime: GraphRunner, frame_shape: tuple[int, ...], pixel_format: str) -> Scorer:
    """The scorer of the bundle's detector, with the calibration of the runtime's precision, for frames of one geometry.

    Raises EngineError if this version does not know the detector, or if the bundle is not calibrated for the precision.
    """
    return open_calibrated(bundle.manifest, bundle.calibration(runtime.precision), runtime, frame_shape, pixel_format)


def open_calibrated(
    manifest: Manifest, calibration: Calibration, runtime: GraphRunner, frame_shape: tuple[int, ...], pixel_format: str
) -> Scorer:
    """As `open_scorer`, from a manifest and a calibration that may not stand in a file yet."""
    if manifest.detector not in SCORERS:
        known = ", ".join(sorted(SCORERS))
        raise EngineError(
            f"detector '{manifest.detector}': this version runs {known}; install the lad-edge that exported the bundle"
        )
    return SCORERS[manifest.detector](
        manifest.contract, manifest.parameters, calibration.normalisation, runtime, frame_shape, pixel_format
    )
