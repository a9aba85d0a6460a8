"""EfficientAD and DFSC at the edge: frame → normalised tensor → two raw maps → one map and its maximum (methods card §2.6, §3.2)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lad_edge.bundle import Contract
from lad_edge.errors import EngineError
from lad_edge.kernels import Preprocess, fuse
from lad_edge.values import Scores

if TYPE_CHECKING:
    from lad_edge.scoring import GraphRunner

GRAPH = "detector"
PARAMETERS = {"border", "border_mode", "maps_side", "sigmoid"}


class EfficientAdScorer:
    """Preprocess, one graph, one fused kernel; all buffers are made here.

    parameters: `maps_side` of the raw maps, `border` cells that they lack on each side, `border_mode` "zero" or "replicate" (E-3),
    `sigmoid` as DFSC has it (D-5). normalisation: branch → (low, high), the 0.9 and 0.995 quantiles of the raw validation maps.
    """

    def __init__(
        self,
        contract: Contract,
        parameters: Mapping[str, Any],
        normalisation: Mapping[str, tuple[float, float]],
        runtime: GraphRunner,
        frame_shape: tuple[int, ...],
        pixel_format: str,
    ) -> None:
        if set(parameters) != PARAMETERS:
            raise EngineError(
                f"the detector's parameters should be {sorted(PARAMETERS)}, the bundle has {sorted(parameters)}; export it again"
            )
        self.run = runtime.run
        swap_rb = pixel_format == "bgr8" and contract.channel_order == "rgb"
        self.plan = Preprocess(
            frame_shape, contract.size, roi=contract.roi, swap_rb=swap_rb, mean=contract.mean, std=contract.std
        )
        side = int(parameters["maps_side"])
        self.input = np.zeros((1, 3, *contract.size), np.float32)
        self.maps = np.zeros((1, 2, side, side), np.float32)
        self.fused = np.zeros(contract.size, np.float32)
        self.scale, self.offset = affine(normalisation)
        self.sigmoid = bool(parameters["sigmoid"])
        self.border, self.border_mode = int(parameters["border"]), str(parameters["border_mode"])
        self.scores: Scores | None = None

    def enqueue(self, image: NDArray[Any]) -> None:
        """Score one frame (H, W, 3) or (H, W), uint8, of the geometry given at the start."""
        started = time.perf_counter_ns()
        self.plan(image, self.input)
        preprocessed = time.perf_counter_ns()
        self.run(GRAPH, image=self.input, maps=self.maps)
        inferred = time.perf_counter_ns()
        found = fuse(
            self.maps[0, 0],
            self.maps[0, 1],
            scale=self.scale,
            offset=self.offset,
            sigmoid=self.sigmoid,
            border=self.border,
            border_mode=self.border_mode,
            size=self.fused.shape,
            out=self.fused,
        )
        stages = {
            "pre": (preprocessed - started) / 1e3,
            "infer": (inferred - preprocessed) / 1e3,
            "post": (time.perf_counter_ns() - inferred) / 1e3,
        }
        structural, logical = (self._scaled(value) for value in (found.structural, found.logical))
        self.scores = Scores(found.score, structural, logical, found.nonfinite, self.fused, stages)

    def _scaled(self, branch: float) -> float:
        """A branch's maximum on the scale of the score, so that both answer to one threshold."""
        return 0.5 + 0.5 * math.tanh(0.5 * branch) if self.sigmoid else branch  # the logistic function without overflow

    def wait(self) -> Scores:
        """The scores of the frame enqueued last; the map is a view that the next frame overwrites."""
        if self.scores is None:
            raise EngineError("wait() was called before enqueue(); enqueue a frame first")
        scores, self.scores = self.scores, None
        return scores


def affine(normalisation: Mapping[str, tuple[float, float]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scale and offset per branch so that the two validation quantiles map to 0 and 0.1: both branches then weigh alike."""
    scales, offsets = [], []
    for branch in ("structural", "logical"):
        low, high = normalisation[branch]
        scale = 0.1 / max(high - low, 1e-12)
        scales.append(scale)
        offsets.append(-low * scale)
    return (scales[0], scales[1]), (offsets[0], offsets[1])
