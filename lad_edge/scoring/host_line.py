"""The line that every frame goes along, on the CPU: each step is one call of an engine or a kernel, in the order they were named."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.kernels import (
    Codebook,
    Fused,
    MaskedRidge,
    Preprocess,
    Projected,
    Quantizer,
    RidgeTables,
    distance_map,
    fuse,
    fuse_places,
    masked_histogram_score,
    project_maps,
    symmetric_kl,
    tails,
)
from lad_edge.scoring.line import Array, R, Said

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from lad_edge.scoring.base import GraphRunner


class HostLine:
    """Steps on numpy arrays. A detector names them once, in its constructor; `enqueue` does all of them for a frame.

    The methods between `array` and `on_host` are those of `CudaLine`, so that a detector is written once. where: how frames run, in words.
    """

    def __init__(self, runtime: GraphRunner | None = None, *, where: str = "kernels on the CPU") -> None:
        self.runtime, self.where = runtime, where
        self.steps: list[Callable[[], None]] = []
        self.inferred = 0  # steps up to the last network
        self.nonfinite = 0  # values of the frame that are not finite, as far as kernels count them apart
        self._image: Array = None
        self._stages_us: dict[str, float] = {}

    # ---- memory

    def array(self, *shape: int, dtype: DTypeLike = np.float32) -> Array:
        """Zeros for the steps to fill."""
        return np.zeros(shape, dtype)

    def shown(self, *shape: int, dtype: DTypeLike = np.float32) -> Array:
        """As `array`, for what every frame's scores need: a GPU brings all of it to the host at once."""
        return self.array(*shape, dtype=dtype)

    def table(self, values: NDArray[Any]) -> Array:
        """A constant."""
        return values

    def read(self, array: Array) -> NDArray[Any]:
        """What an array holds after the last frame, until the next."""
        values: NDArray[Any] = array
        return values

    # ---- steps

    def preprocess(self, frame_shape: Sequence[int], size: Sequence[int], out: Array, **settings: Any) -> None:
        """Frame → normalised tensor; the first step. settings: of `kernels.Preprocess`."""
        plan = Preprocess(frame_shape, size, **settings)
        self.steps.append(lambda: plan(self._image, out))

    def graph(self, role: str, **buffers: Array) -> None:
        """Run a network."""
        assert self.runtime is not None  # noqa: S101 - lines without a runtime have kernels alone
        self.steps.append(partial(self.runtime.run, role, **buffers))
        self.inferred = len(self.steps)

    @contextmanager
    def beside(self) -> Iterator[Any]:
        """What is named inside may run at the same time as what follows, up to `join` of the value that is given."""
        yield None

    def join(self, beside: Any) -> None:
        """What follows needs what was named inside `beside`."""

    def fuse(self, structural: Array, logical: Array, **settings: Any) -> Said[Fused]:
        """See `kernels.fuse`."""
        return self._ask(partial(fuse, structural, logical, **settings))

    def fuse_places(self, structural: Array, logical: Array, **settings: Any) -> Said[Fused]:
        """See `kernels.fuse_places`."""
        return self._ask(partial(fuse_places, structural, logical, **settings))

    def distance_map(self, a: Array, b: Array, *, cosine: float = 0.0, out: Array) -> None:
        """See `kernels.distance_map`."""
        self._count(partial(distance_map, a, b, cosine=cosine, out=out))

    def project_maps(
        self,
        maps: Sequence[Array],
        rows: Sequence[Array],
        columns: Sequence[Array],
        *,
        weights: Sequence[float],
        constant: float | Array,
        out: Array,
    ) -> Said[Projected]:
        """See `kernels.project_maps`. constant: a number, or an array (1,) that an earlier step fills."""
        project = partial(project_maps, maps, rows, columns, weights, out=out)
        if isinstance(constant, np.ndarray):
            return self._ask(lambda: project(constant=_finite(constant.item())))
        return self._ask(partial(project, constant=float(constant)))

    def quantize(
        self, top: Codebook, levels: Sequence[Codebook], tokens: Array, *, codes: Array, memory: Array
    ) -> None:
        """See `kernels.Quantizer`."""
        self._count(partial(Quantizer(top, levels), tokens, codes, memory))

    def masked_histogram_score(self, codes: Array, masks: Array, logits: Array, *, out: Array) -> None:
        """See `kernels.masked_histogram_score`."""
        self._count(partial(masked_histogram_score, codes, masks, logits, out))

    def symmetric_kl(self, queries: Array, keys: Array, sigmas: Array, *, heads: int, side: int, out: Array) -> None:
        """Fill out (L,) with the mean of `kernels.symmetric_kl` over the layers, which all three inputs have first."""
        mean = partial(symmetric_kl, heads=heads, side=side, out=out, weight=1 / len(queries))

        def each_layer() -> int:
            out[:] = 0
            return sum(mean(*layer) for layer in zip(queries, keys, sigmas, strict=True))

        self._count(each_layer)

    def masked_ridge(self, tables: RidgeTables, cells: Array, *, fine: Array, coarse: Array, own: Array) -> None:
        """See `kernels.MaskedRidge`."""
        self._count(partial(MaskedRidge(tables), cells, fine, coarse, own))

    def take_rows(self, table: Array, codes: Array, *, out: Array) -> None:
        """See `tails.take_rows`."""
        self.steps.append(partial(tails.take_rows, table, codes, out=out))

    def modulate(self, error: Array, divergence: Array, *, from_largest: bool, out: Array) -> None:
        """See `tails.modulate`."""
        self.steps.append(partial(tails.modulate, error, divergence, from_largest=from_largest, out=out))

    def larger_of_regions(self, fine: Array, coarse: Array, *, scales: tuple[float, float], out: Array) -> None:
        """See `tails.larger_of_regions`."""
        self.steps.append(partial(tails.larger_of_regions, fine, coarse, scales=scales, out=out))

    def mask_maps(self, distances: Array, scores: Array, *, channels: int, **arrays: Array) -> None:
        """See `tails.mask_maps`."""
        self.steps.append(partial(tails.mask_maps, distances, scores, channels=channels, **arrays))

    def join_branches(self, peak: Said[Projected], mean_deviation: Array, **settings: Any) -> None:
        """See `tails.join_branches`; peak: the score of a projection."""
        self.steps.append(lambda: tails.join_branches(peak.value.score, mean_deviation, **settings))

    def larger_capped(self, first: Array, second: Array, most: Array, *, out: Array) -> None:
        """See `tails.larger_capped`."""
        self.steps.append(partial(tails.larger_capped, first, second, most, out=out))

    def on_host(self, _what: str, count: Callable[[], int]) -> None:
        """A step that has no form on the GPU, called what it is in words. count: gives the number of values that are not finite."""
        self._count(count)

    # ---- frames

    def enqueue(self, image: NDArray[Any]) -> None:
        """Do all steps for a frame."""
        self._image, self.nonfinite = image, 0
        for stage, first, last in (("pre", 0, 1), ("infer", 1, self.inferred), ("post", self.inferred, None)):
            started = time.perf_counter_ns()
            self.repeat(first, last)
            self._stages_us[stage] = (time.perf_counter_ns() - started) / 1e3

    def repeat(self, first: int, last: int | None = None) -> None:
        """Do some of the steps, on what the arrays hold now."""
        for step in self.steps[first:last]:
            step()

    def wait(self) -> dict[str, float]:
        """Return the time of each stage of the frame enqueued last, in µs."""
        return dict(self._stages_us)

    def close(self) -> None:
        """Let go of what belongs to the line; the engine stays open."""
        self.steps.clear()

    def _ask(self, kernel: Callable[[], R]) -> Said[R]:
        answers: list[R] = []

        def step() -> None:
            answers[:] = [kernel()]

        self.steps.append(step)
        return Said(lambda: answers[0])

    def _count(self, kernel: Callable[[], int]) -> None:
        def step() -> None:
            self.nonfinite += kernel()

        self.steps.append(step)


def _finite(value: float) -> float:
    """The kernel refuses a constant that is not finite; a frame with such values is refused by the gate anyway."""
    return value if math.isfinite(value) else 0.0
