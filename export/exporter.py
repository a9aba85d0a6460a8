"""What the export needs of each detector: its graphs and tables, what its calibration measures, and torch's own answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from lad_edge.export.to_onnx import to_onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from lad_edge.bundle import Graph
from lad_edge.errors import DataError
from lad_edge.kernels import quantiles
from lad_edge.scoring.base import Normalisation

LOW, HIGH = 0.9, 0.995  # of all cells of all validation maps (methods card §2.6, decision E-2)

Raw = Mapping[str, NDArray[np.float32]]  # branch → (n, h, w) or (n, values), before normalisation, of n images
CODES = "codes"  # the branch of detectors with codebooks: (n, books, tokens), exact numbers


@dataclass(frozen=True)
class Exported:
    """graphs: role → description and ONNX bytes; parameters: of the manifest; tables: constant tensors of the bundle by name."""

    graphs: Mapping[str, tuple[Graph, bytes]]
    parameters: Mapping[str, Any]
    tables: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Exporter(Protocol):
    """One module for each family of detectors."""

    def export(self, networks: Any, config: Any, border_mode: str) -> Exported:
        """Fold the networks and export them."""

    def branches(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the raw maps that the scorer gives."""

    def normalise(
        self, raw: Raw, size: tuple[int, int], parameters: Mapping[str, Any]
    ) -> dict[str, tuple[float, float]]:
        """Low and high level of each branch, from raw maps of good validation images."""

    def answer(
        self, networks: Any, pixels: Tensor, normalisation: Normalisation, parameters: Mapping[str, Any]
    ) -> tuple[float, Raw]:
        """Score and raw maps of one image by the unfolded torch networks and the numpy reference: independent of what is exported."""


def trace(module: nn.Module, role: str, side: int, outputs: Sequence[str]) -> tuple[Graph, bytes]:
    """One graph that takes the image; its output shapes are those of a run."""
    return trace_from(module, role, "image", torch.zeros(1, 3, side, side), outputs)


def trace_from(module: nn.Module, role: str, name: str, example: Tensor, outputs: Sequence[str]) -> tuple[Graph, bytes]:
    """The same for a graph with another input."""
    with torch.inference_mode():
        found = module.eval()(example)
    found = [found] if isinstance(found, Tensor) else found
    shapes = {output: tuple(values.shape) for output, values in zip(outputs, found, strict=True)}
    graph = Graph(f"graph/{role}", "onnx", {name: tuple(example.shape)}, shapes)
    return graph, to_onnx(module, example, [name], outputs)


def high_levels(raw: Raw) -> dict[str, tuple[float, float]]:
    """The 0.9 and 0.995 quantiles of each branch over all cells of all maps. Raises DataError for maps that are not finite."""
    require_finite(raw)
    found = {}
    for branch, maps in raw.items():
        low, high = quantiles(np.ascontiguousarray(maps), (LOW, HIGH))
        found[branch] = (float(low), float(high))
    return found


def place_levels(raw: Raw) -> NDArray[np.float32]:
    """Mean and scale of each place of each branch, (2, branches, h, w), from raw maps of good training images. Ours, not the papers'.

    A highlight or an edge that every good part has then no longer outshines a defect elsewhere. The scale is 1 / √(σ² + σ̄²) with the mean
    σ̄ of all places' standard deviations, which keeps places that never vary from exploding. Raises DataError for maps that are not finite.
    """
    require_finite(raw)
    maps = np.stack(list(raw.values()), 1).astype(np.float64)
    spread = maps.std(0)
    scale = 1 / np.maximum(np.hypot(spread, spread.mean((1, 2), keepdims=True)), 1e-12)
    return np.stack([maps.mean(0), scale]).astype(np.float32)


def usual_peaks(raw: Raw, places: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    """0 and the median over good validation images of the highest deviation: the branches weigh by what good parts reach."""
    require_finite(raw)
    levels = zip(raw.items(), *places, strict=True)
    peaks = {name: np.maximum((maps - mean) * scale, 0).max((1, 2)) for (name, maps), mean, scale in levels}
    return {branch: (0.0, float(np.median(highest))) for branch, highest in peaks.items()}


def require_finite(raw: Raw) -> None:
    """Raises DataError for maps with NaN or Inf."""
    for branch, maps in raw.items():
        if not np.isfinite(maps).all():
            raise DataError(
                f"the {branch} maps of good images hold NaN or Inf; the training diverged: train again with a smaller --lr"
            )
