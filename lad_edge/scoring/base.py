"""What every scorer is made from, and what they share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lad_edge.bundle import Contract
from lad_edge.errors import EngineError
from lad_edge.kernels import Preprocess
from lad_edge.values import Scores


class Normalisation(Mapping[str, tuple[float, float]]):
    """Branch → the two levels of its map that become 0 and 0.1, both measured on good parts.

    places: None, or (2, branches, h, w) float32, mean and scale of each place: the levels are then those of the deviations.
    """

    def __init__(self, levels: Mapping[str, tuple[float, float]], places: NDArray[np.float32] | None = None) -> None:
        self.levels, self.places = levels, places

    def __getitem__(self, branch: str) -> tuple[float, float]:
        return self.levels[branch]

    def __iter__(self) -> Iterator[str]:
        return iter(self.levels)

    def __len__(self) -> int:
        return len(self.levels)

    def weighted_places(self, scales: Collection[float]) -> NDArray[np.float32] | None:
        """`places` with the scale of each branch, as `kernels.fuse_places` takes them."""
        if self.places is None:
            return None
        mean, scale = self.places
        return np.stack([mean, scale * np.array(list(scales), np.float32)[:, None, None]])


class GraphRunner(Protocol):
    """Whatever runs a graph by its role, on buffers of the caller."""

    @property
    def precision(self) -> str:
        """Arithmetic of the engine, such as "f32" or "bf16"; calibrations are kept per precision."""
        ...

    def run(self, graph: str, **buffers: NDArray[np.float32]) -> None:
        """Read the inputs, write the outputs."""
        ...


@dataclass(frozen=True)
class Setup:
    """contract, parameters: of the manifest; tables: constant tensors of the bundle by name; normalisation: of the calibration.

    runtime: runs the graphs; frame_shape, pixel_format: of the frames that will come.
    """

    contract: Contract
    parameters: Mapping[str, Any]
    normalisation: Normalisation
    runtime: GraphRunner
    frame_shape: tuple[int, ...]
    pixel_format: str
    tables: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def preprocess(self) -> Preprocess:
        """Frame → normalised tensor, as the contract says."""
        contract = self.contract
        return Preprocess(
            self.frame_shape,
            contract.size,
            roi=contract.roi,
            swap_rb=self.pixel_format == "bgr8" and contract.channel_order == "rgb",
            mean=contract.mean,
            std=contract.std,
        )

    def expect(self, parameters: Collection[str]) -> None:
        """Raises EngineError unless the bundle has exactly these parameters."""
        if set(self.parameters) != set(parameters):
            raise EngineError(
                f"the detector's parameters should be {sorted(parameters)}, the bundle has {sorted(self.parameters)}; export it again"
            )

    def table(self, name: str, dtype: type[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """A constant tensor of the bundle. Raises EngineError unless it is there with this type and shape."""
        found = self.tables.get(name)
        if found is None or found.shape != shape or found.dtype != dtype:
            what = "none" if found is None else f"{found.dtype} {found.shape}"
            raise EngineError(
                f"the bundle should hold the table {name} of {np.dtype(dtype)} {shape}, found {what}; export it again"
            )
        return np.ascontiguousarray(found)


def affine(levels: tuple[float, float]) -> tuple[float, float]:
    """Scale and offset that bring the two levels of a branch to 0 and 0.1: all branches then weigh alike."""
    low, high = levels
    scale = 0.1 / max(high - low, 1e-12)
    return scale, -low * scale


class FrameScorer(ABC):
    """The line that every frame goes along: preprocess, engine, kernels; subclasses make their buffers once and fill the last two."""

    def __init__(self, setup: Setup) -> None:
        self.run, self.plan = setup.runtime.run, setup.preprocess()
        self.input = np.zeros((1, 3, *setup.contract.size), np.float32)
        self.scores: Scores | None = None

    def enqueue(self, image: NDArray[Any]) -> None:
        """Score one frame (H, W, 3) or (H, W), uint8, of the geometry given at the start."""
        started = time.perf_counter_ns()
        self.plan(image, self.input)
        preprocessed = time.perf_counter_ns()
        self.infer()
        inferred = time.perf_counter_ns()
        scores = self.judge()
        stages = {
            "pre": (preprocessed - started) / 1e3,
            "infer": (inferred - preprocessed) / 1e3,
            "post": (time.perf_counter_ns() - inferred) / 1e3,
        }
        self.scores = replace(scores, stages_us=stages)

    def wait(self) -> Scores:
        """The scores of the frame enqueued last; the map is a view that the next frame overwrites."""
        if self.scores is None:
            raise EngineError("wait() was called before enqueue(); enqueue a frame first")
        scores, self.scores = self.scores, None
        return scores

    @property
    @abstractmethod
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """Branch → what the last frame gave before normalisation, views: calibration is measured on it."""

    @abstractmethod
    def infer(self) -> None:
        """Run the graphs on `input`."""

    @abstractmethod
    def judge(self) -> Scores:
        """Outputs of the graphs → scores and map."""
