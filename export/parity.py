"""The gate of the export: torch against the exported pipeline, scores and verdicts, on at least 32 images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lad_edge.bundle import Contract
from lad_edge.detectors.efficient_ad import EfficientAd
from lad_edge.errors import DataError, ParityError
from lad_edge.kernels import reference
from lad_edge.scoring.efficient_ad import affine

MINIMUM_IMAGES = 32
TOLERANCE = {"f32": 1e-3}  # relative error of the score; a reduced precision states its own error instead


@dataclass(frozen=True)
class Parity:
    """Agreement of two lists of scores and of the verdicts that they lead to."""

    images: int
    verdicts_equal: int
    max_relative_error: float
    mean_relative_error: float

    @property
    def holds(self) -> bool:
        """Every verdict equal and every score within the tolerance of full precision."""
        return self.verdicts_equal == self.images and self.max_relative_error <= TOLERANCE["f32"]

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "images": self.images,
            "verdicts_equal": self.verdicts_equal,
            "max_relative_error": float(f"{self.max_relative_error:.3g}"),
            "mean_relative_error": float(f"{self.mean_relative_error:.3g}"),
        }


def compare(expected: NDArray[np.float64], found: NDArray[np.float64], thresholds: tuple[float, float]) -> Parity:
    """Scores of the same images from two implementations, each judged by its own threshold.

    The error is relative to the expected score, or to the threshold where the score is smaller than that: scores cross zero.
    """
    if len(expected) < MINIMUM_IMAGES:
        raise DataError(
            f"the parity gate needs at least {MINIMUM_IMAGES} images, found {len(expected)}; add good images to the data set"
        )
    errors = np.abs(found - expected) / np.maximum(np.abs(expected), max(abs(thresholds[0]), 1e-12))
    same = (expected <= thresholds[0]) == (found <= thresholds[1])
    return Parity(len(expected), int(same.sum()), float(errors.max()), float(errors.mean()))


def require(parity: Parity, what: str) -> None:
    """Raise ParityError unless the gate holds."""
    if not parity.holds:
        raise ParityError(
            f"{what}: expected all verdicts equal and scores within {TOLERANCE['f32']:g}, "
            f"found {parity.verdicts_equal} of {parity.images} verdicts equal and a relative error of "
            f"{parity.max_relative_error:.2g}; the export is wrong or a library changed: nothing was written"
        )


def torch_scores(
    networks: EfficientAd,
    images: Sequence[NDArray[np.uint8]],
    contract: Contract,
    parameters: Mapping[str, Any],
    normalisation: Mapping[str, tuple[float, float]],
) -> NDArray[np.float64]:
    """Scores by the unfolded torch networks and the numpy reference kernels: independent of everything that is exported."""
    scale, offset = affine(normalisation)
    found = []
    for image in images:
        pixels = reference.preprocess(
            image,
            contract.size,
            roi=contract.roi,
            swap_rb=contract.pixel_format == "bgr8",
            mean=contract.mean,
            std=contract.std,
        )
        with torch.inference_mode():
            maps = networks(torch.from_numpy(np.asarray(pixels, np.float32))[None])[0].numpy()
        fused, _ = reference.fuse(
            maps[0],
            maps[1],
            scale=scale,
            offset=offset,
            sigmoid=bool(parameters["sigmoid"]),
            border=int(parameters["border"]),
            border_mode=str(parameters["border_mode"]),
            size=contract.size,
        )
        found.append(fused.score)
    return np.array(found, np.float64)
