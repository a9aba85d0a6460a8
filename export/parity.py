"""The gate of the export: torch against the exported pipeline, scores and verdicts, on at least 32 images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lad_edge.export.calibrate import Answers
from lad_edge.export.exporter import CODES, Exporter, Raw, high_levels
from numpy.typing import NDArray

from lad_edge.bundle import Contract
from lad_edge.errors import DataError, ParityError
from lad_edge.kernels import reference
from lad_edge.scoring import Normalisation

MINIMUM_IMAGES = 32
CODES_EQUAL = 0.999  # a token between two entries falls to either side by its last bit
SETTLED_IMAGES = 8  # with all codes equal: enough to compare number by number
TOLERANCE = {"f32": 1e-3}  # relative error of the score; a reduced precision states its own error instead


@dataclass(frozen=True)
class Parity:
    """Agreement of two implementations: scores, the verdicts that they lead to, and the raw map of each branch.

    Scores alone do not prove an export: a branch whose map is shifted is calibrated by its own quantiles, which takes the shift out
    again, and the maximum of the other branch may decide every score.

    codes_equal: share of equal codes, for detectors with codebooks. A token that lies between two entries may change its code with the
    last bit, and the score jumps with it: errors are those of the images whose codes are all equal, if these are eight or more.
    """

    images: int
    verdicts_equal: int
    max_relative_error: float
    mean_relative_error: float
    map_errors: Mapping[str, float]
    codes_equal: float | None = None

    @property
    def holds(self) -> bool:
        """Every verdict equal, every score and every cell of every map within the tolerance of full precision."""
        worst = max(self.max_relative_error, *self.map_errors.values())
        codes = self.codes_equal is None or self.codes_equal >= CODES_EQUAL
        return codes and self.verdicts_equal == self.images and worst <= TOLERANCE["f32"]

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        codes = {} if self.codes_equal is None else {"codes_equal": float(f"{self.codes_equal:.6g}")}
        return codes | {
            "images": self.images,
            "verdicts_equal": self.verdicts_equal,
            "max_relative_error": float(f"{self.max_relative_error:.3g}"),
            "mean_relative_error": float(f"{self.mean_relative_error:.3g}"),
            "map_errors": {branch: float(f"{error:.3g}") for branch, error in self.map_errors.items()},
        }


def compare(expected: Answers, found: Answers, thresholds: tuple[float, float]) -> Parity:
    """Two implementations on the same images, each judged by its own threshold.

    The error of a score is relative to the expected score, or to the threshold where the score is smaller than that: scores cross
    zero. The error of a map is the largest of its cells, relative to the level that calibration takes as high (methods card §2.6).
    """
    if len(expected.scores) < MINIMUM_IMAGES:
        raise DataError(
            f"the parity gate needs at least {MINIMUM_IMAGES} images, found {len(expected.scores)}; add good images to the data set"
        )
    errors = np.abs(found.scores - expected.scores)
    errors /= np.maximum(np.abs(expected.scores), max(abs(thresholds[0]), 1e-12))
    same = (expected.scores <= thresholds[0]) == (found.scores <= thresholds[1])
    settled = _same_codes(expected.raw, found.raw)
    return Parity(
        images=len(errors),
        verdicts_equal=int(same.sum()),
        max_relative_error=float(errors[settled].max()),
        mean_relative_error=float(errors[settled].mean()),
        map_errors=_map_errors(_only(expected.raw, settled), _only(found.raw, settled)),
        codes_equal=float((expected.raw[CODES] == found.raw[CODES]).mean()) if CODES in expected.raw else None,
    )


def _same_codes(expected: Raw, found: Raw) -> NDArray[np.bool_]:
    """Which images are compared number by number: those with equal codes; all of them if too few have, or there are none."""
    images = len(next(iter(expected.values())))
    same = (
        np.array([np.array_equal(*(raw[CODES][i] for raw in (expected, found))) for i in range(images)])
        if (CODES in expected)
        else np.ones(images, np.bool_)
    )
    return same if same.sum() >= SETTLED_IMAGES else np.ones(images, np.bool_)


def _only(raw: Raw, images: NDArray[np.bool_]) -> Raw:
    return {branch: values[images] for branch, values in raw.items() if branch != CODES}


def _map_errors(expected: Raw, found: Raw) -> dict[str, float]:
    """Branch → largest error of a cell over the expected maps' high quantile."""
    return {
        branch: float(np.abs(found[branch] - expected[branch]).max() / max(high, 1e-12))
        for branch, (_, high) in high_levels(expected).items()
    }


def require(parity: Parity, what: str) -> None:
    """Raise ParityError unless the gate holds."""
    if not parity.holds:
        raise ParityError(
            f"{what}: expected all verdicts equal, scores and maps within {TOLERANCE['f32']:g}, "
            f"found {parity.verdicts_equal} of {parity.images} verdicts equal and relative errors of "
            f"{parity.max_relative_error:.2g} (score), "
            + ("" if parity.codes_equal is None else f"{parity.codes_equal:.2%} of the codes equal, ")
            + ", ".join(f"{error:.2g} ({branch} map)" for branch, error in parity.map_errors.items())
            + "; the export is wrong or a library changed: nothing was written"
        )


def torch_answer(
    exporter: Exporter,
    networks: Any,
    images: Sequence[NDArray[np.uint8]],
    contract: Contract,
    parameters: Mapping[str, Any],
    normalisation: Normalisation,
) -> Answers:
    """Maps and scores by torch and the numpy reference kernels: independent of everything that is exported."""
    scores: list[float] = []
    raw: dict[str, list[NDArray[np.float32]]] = {}
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
            score, maps = exporter.answer(
                networks, torch.from_numpy(pixels.astype(np.float32))[None], normalisation, parameters
            )
        scores.append(score)
        for branch, values in maps.items():
            raw.setdefault(branch, []).append(values)
    return Answers(np.array(scores, np.float64), {branch: np.stack(values) for branch, values in raw.items()})
