"""Edge half of each detector: pixels of a frame go in, an anomaly map and a score come out; graphs run behind `GraphRunner`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from lad_edge.bundle import Bundle, Calibration, Manifest
from lad_edge.errors import EngineError, MissingDependencyError
from lad_edge.scoring.base import FrameScorer, GraphRunner, Normalisation, Setup
from lad_edge.scoring.cuda_line import CudaLine
from lad_edge.scoring.efficient_ad import EfficientAdScorer
from lad_edge.scoring.fod import FodScorer
from lad_edge.scoring.host_line import HostLine
from lad_edge.scoring.ladmim import LadmimScorer
from lad_edge.scoring.line import NoCudaFormError
from lad_edge.scoring.masked_ridge import MaskedRidgeScorer
from lad_edge.scoring.ulsad import UlsadScorer

__all__ = [
    "SCORERS",
    "FrameScorer",
    "GraphRunner",
    "Normalisation",
    "Setup",
    "open_calibrated",
    "open_on_best_line",
    "open_scorer",
]

SCORERS: dict[str, Callable[[Setup], FrameScorer]] = {
    "efficient_ad": EfficientAdScorer,
    "dfsc": EfficientAdScorer,
    "ulsad": UlsadScorer,
    "fod": FodScorer,
    "ladmim": LadmimScorer,
    "masked_ridge": MaskedRidgeScorer,
}


def open_scorer(
    bundle: Bundle, runtime: GraphRunner, frame_shape: tuple[int, ...], pixel_format: str, *, cuda_graph: bool = True
) -> FrameScorer:
    """The scorer of the bundle's detector, with the calibration of the runtime's precision, for frames of one geometry.

    cuda_graph: see `open_on_best_line`.
    Raises EngineError if this version does not know the detector, or if the bundle is not calibrated for the precision.
    """
    calibration = bundle.calibration(runtime.precision)
    tables = bundle.tensors
    return open_calibrated(
        bundle.manifest, calibration, runtime, frame_shape, pixel_format, tables, cuda_graph=cuda_graph
    )


def open_calibrated(
    manifest: Manifest,
    calibration: Calibration,
    runtime: GraphRunner,
    frame_shape: tuple[int, ...],
    pixel_format: str,
    tables: Mapping[str, NDArray[Any]],
    *,
    cuda_graph: bool = True,
) -> FrameScorer:
    """As `open_scorer`, from a manifest, a calibration and tables that may not stand in a file yet."""
    if manifest.detector not in SCORERS:
        known = ", ".join(sorted(SCORERS))
        raise EngineError(
            f"detector '{manifest.detector}': this version runs {known}; install the lad-edge that exported the bundle"
        )
    places = None if calibration.places is None else tables[calibration.places]
    normalisation = Normalisation(calibration.normalisation, places)
    setup = Setup(manifest.contract, manifest.parameters, normalisation, runtime, frame_shape, pixel_format, tables)
    return open_on_best_line(manifest.detector, setup, cuda_graph=cuda_graph)


def open_on_best_line(detector: str, setup: Setup, *, cuda_graph: bool = True) -> FrameScorer:
    """A scorer whose kernels run where the engine does: on the GPU if the runtime has its arrays there, else on the CPU.

    A GPU engine whose frames cannot go along that way has its kernels on the CPU; `scorer.line.where` says why. cuda_graph: False = the
    steps of a GPU are enqueued for each frame.
    """
    scorer, runtime = SCORERS[detector], setup.runtime
    if not hasattr(runtime, "cuda"):
        return scorer(setup)
    try:
        if runtime.cuda is None:
            raise MissingDependencyError("pycuda is not installed; pip install 'lad-edge[cuda]'")
        return scorer(replace(setup, open_line=partial(CudaLine, cuda_graph=cuda_graph)))
    except (MissingDependencyError, NoCudaFormError) as exc:
        return scorer(replace(setup, open_line=partial(HostLine, where=f"kernels on the CPU: {exc}")))
