"""What every scorer is made from, and what they share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lad_edge.bundle import Contract
from lad_edge.errors import EngineError
from lad_edge.kernels import Preprocess
from lad_edge.scoring.host_line import HostLine
from lad_edge.values import Scores

if TYPE_CHECKING:
    from lad_edge.runtime.arrays import DeviceArray
    from lad_edge.runtime.device import Cuda, Stream
    from lad_edge.scoring.line import Line


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


class GpuGraphRunner(Protocol):
    """A runtime that runs graphs on arrays of the GPU."""

    cuda: Cuda

    def enqueue(
        self, graph: str, stream: Stream | None = None, recording: bool = False, /, **arrays: DeviceArray
    ) -> None:
        """Run a graph behind what a stream has to do, `cuda.stream` by default; returns at once.

        recording: the arrays come again with every frame, so that an engine that makes CUDA graphs itself may make one.
        """
        ...

    def cannot_capture(self) -> str:
        """Why its graphs cannot be part of a CUDA graph; empty if they can."""
        ...


@dataclass(frozen=True)
class Setup:
    """contract, parameters: of the manifest; tables: constant tensors of the bundle by name; normalisation: of the calibration.

    runtime: runs the graphs; frame_shape, pixel_format: of the frames that will come. open_line: where the steps run.
    """

    contract: Contract
    parameters: Mapping[str, Any]
    normalisation: Normalisation
    runtime: GraphRunner
    frame_shape: tuple[int, ...]
    pixel_format: str
    tables: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    open_line: Callable[[Any], Line] = HostLine

    def preprocess(self) -> Preprocess:
        """Frame → normalised tensor, as the contract says."""
        return Preprocess(self.frame_shape, self.contract.size, **self.pixels())

    def pixels(self) -> dict[str, Any]:
        """The settings of `kernels.Preprocess` that the contract and the frames give."""
        return {
            "roi": self.contract.roi,
            "swap_rb": self.pixel_format == "bgr8" and self.contract.channel_order == "rgb",
            "mean": self.contract.mean,
            "std": self.contract.std,
        }

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
    """Preprocess, networks, kernels: subclasses name the steps and buffers of their line once, and say what came out of a frame."""

    def __init__(self, setup: Setup) -> None:
        self.line = setup.open_line(setup.runtime)
        self.input = self.line.array(1, 3, *setup.contract.size)
        self.line.preprocess(setup.frame_shape, setup.contract.size, self.input, **setup.pixels())
        self._enqueued = False

    def enqueue(self, image: NDArray[Any]) -> None:
        """Score one frame (H, W, 3) or (H, W), uint8, of the geometry given at the start."""
        self.line.enqueue(image)
        self._enqueued = True

    def wait(self) -> Scores:
        """The scores of the frame enqueued last; the map is a view that the next frame overwrites."""
        if not self._enqueued:
            raise EngineError("wait() was called before enqueue(); enqueue a frame first")
        self._enqueued = False
        stages = self.line.wait()
        started = time.perf_counter_ns()
        scores = self.judge()
        stages["post"] += (time.perf_counter_ns() - started) / 1e3
        return replace(scores, stages_us=stages)

    def close(self) -> None:
        """Let go of the buffers; the engine stays open."""
        self.line.close()

    @property
    @abstractmethod
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """Branch → what the last frame gave before normalisation, views: calibration is measured on it."""

    @abstractmethod
    def judge(self) -> Scores:
        """What the steps left of the frame → scores and map."""
