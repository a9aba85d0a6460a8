"""The line that every frame goes along, on a GPU: the same steps as on the CPU, enqueued behind each other and captured as one CUDA graph.

A frame: its bytes go up from pinned memory, the steps follow, and one copy brings scores and map back. The first frame goes step by step,
which loads kernels and lets engines allocate; then the whole is captured, has to repeat that frame's results, and each further frame is
one launch. Where a part cannot be captured the steps are enqueued for each frame, and `where` says why.

A frame in memory that a camera's process shares goes up from where it is, any other one by a copy to pinned memory. A CUDA graph reads
one address: there is one for each slot of a camera, captured at its first frame, and one for copies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.errors import EngineError
from lad_edge.kernels import Codebook, Fused, Projected, RidgeTables
from lad_edge.scoring.line import Array, NoCudaFormError, Said
from lad_edge.scoring.upload import Upload

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from lad_edge.runtime.arrays import DeviceArray
    from lad_edge.runtime.captured import CapturedWork
    from lad_edge.scoring.base import GpuGraphRunner

_MOST_GRAPHS = 16  # addresses that frames go up from
_STREAM = "CUDA stream, not one CUDA graph: "


class CudaLine:
    """Steps on arrays of the GPU; its methods are those of `HostLine`, which says what they mean.

    runtime: whose streams and memory are used; cuda_graph: False = enqueue the steps for each frame.
    Raises MissingDependencyError where the CUDA kernels are not part of the installation.
    """

    def __init__(self, runtime: GpuGraphRunner, *, cuda_graph: bool = True) -> None:
        self.kernels = cuda_kernels()
        self.runtime, self.cuda, self.stream = runtime, runtime.cuda, runtime.cuda.stream
        self.steps: list[Callable[[], object]] = []
        self.results = self.cuda.mirror()
        self._counter = self.results.array((1,), np.int64)
        self._captured: dict[int, CapturedWork] = {}  # by the address that the frame goes up from
        self._upload: Upload
        self._open = self._pending = False
        self._stages_us: dict[str, float] = {}
        self._started_ns = 0
        self._recording = self._capturing = cuda_graph
        self._path = _STREAM + ("before the first frame" if cuda_graph else "not wanted")

    @property
    def where(self) -> str:
        """How frames run, in words."""
        problem = self.cuda.reads_in_place.problem
        return f"{self._path}; frames of a camera are copied first: {problem}" if problem else self._path

    @property
    def nonfinite(self) -> int:
        """Values of the frame that are not finite, as far as kernels count them apart."""
        return int(self.read(self._counter)[0])

    # ---- memory

    def array(self, *shape: int, dtype: DTypeLike = np.float32) -> Array:
        """See `HostLine.array`."""
        return self.cuda.array(shape, dtype)

    def shown(self, *shape: int, dtype: DTypeLike = np.float32) -> Array:
        """See `HostLine.shown`."""
        return self.results.array(shape, dtype)

    def table(self, values: NDArray[Any]) -> Array:
        """See `HostLine.table`."""
        return self.cuda.put(values)

    def read(self, array: Array) -> NDArray[Any]:
        """See `HostLine.read`; what is not `shown` is copied now."""
        on_host = self.results.on_host(array)
        return self.cuda.get(array) if on_host is None else on_host

    # ---- steps

    def preprocess(self, frame_shape: Sequence[int], size: Sequence[int], out: Array, **settings: Any) -> None:
        """See `HostLine.preprocess`."""
        plan = self._prepared(self.kernels.Preprocess(frame_shape, size, **settings))
        self._upload = Upload(self.cuda, frame_shape, settings.get("roi"))
        self.steps.append(partial(self._upload.enqueue, self.stream))
        self._kernel(plan, self._upload.on_gpu, out)

    def graph(self, role: str, **buffers: Array) -> None:
        """See `HostLine.graph`."""
        self.steps.append(partial(self.runtime.enqueue, role, self.stream, self._recording, **buffers))

    @contextmanager
    def beside(self) -> Iterator[Any]:
        """See `HostLine.beside`."""
        main, side = self.stream, self.cuda.new_stream()
        begun, done = self.cuda.event(), self.cuda.event()
        self.steps += [partial(main.record, begun), partial(side.after, begun)]
        self.stream = side
        yield done
        self.stream = main
        self.steps.append(partial(side.record, done))

    def join(self, beside: Any) -> None:
        """See `HostLine.join`."""
        self.steps.append(partial(self.stream.after, beside))

    def fuse(self, structural: Array, logical: Array, *, size: Sequence[int], **settings: Any) -> Said[Fused]:
        """See `HostLine.fuse`."""
        return self._fuse(self.kernels.fuse, structural, logical, size, settings)

    def fuse_places(self, structural: Array, logical: Array, *, size: Sequence[int], **settings: Any) -> Said[Fused]:
        """See `HostLine.fuse_places`."""
        return self._fuse(self.kernels.fuse_places, structural, logical, size, settings)

    def distance_map(self, a: Array, b: Array, *, cosine: float = 0.0, out: Array) -> None:
        """See `HostLine.distance_map`."""
        self._kernel(self.kernels.distance_map, a, b, cosine=cosine, out=out, nonfinite=self._counter)

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
        """See `HostLine.project_maps`."""
        result = self.shown(4, dtype=np.float64)
        workspace = self._workspace(self.kernels.project_workspace_bytes(size=out.shape))
        given = {"constant": constant, "out": out, "result": result, "workspace": workspace}
        self._kernel(self.kernels.project_maps, maps, rows, columns, weights, **given)
        return Said(lambda: _projected(self.read(result)), result)

    def quantize(
        self, top: Codebook, levels: Sequence[Codebook], tokens: Array, *, codes: Array, memory: Array
    ) -> None:
        """See `HostLine.quantize`."""
        plan = self._prepared(self.kernels.Quantizer(top, levels))
        workspace = self._workspace(plan.workspace_bytes(tokens.shape[1]))
        self._kernel(plan, tokens, codes, memory, nonfinite=self._counter, workspace=workspace)

    def masked_histogram_score(self, codes: Array, masks: Array, logits: Array, *, out: Array) -> None:
        """See `HostLine.masked_histogram_score`."""
        self._kernel(self.kernels.masked_histogram_score, codes, masks, logits, out, nonfinite=self._counter)

    def symmetric_kl(self, queries: Array, keys: Array, sigmas: Array, *, heads: int, side: int, out: Array) -> None:
        """See `HostLine.symmetric_kl`."""
        layers = queries.shape[0]
        size = self.kernels.symmetric_kl_workspace_bytes(heads=heads, side=side, layers=layers)
        given = {"heads": heads, "side": side, "weight": 1 / layers, "out": out}
        self.steps.append(partial(self.stream.clear, out))
        buffers = {"nonfinite": self._counter, "workspace": self._workspace(size)}
        self._kernel(self.kernels.symmetric_kl, queries, keys, sigmas, **given, **buffers)

    def masked_ridge(self, tables: RidgeTables, cells: Array, *, fine: Array, coarse: Array, own: Array) -> None:
        """See `HostLine.masked_ridge`."""
        plan = self._prepared(self.kernels.MaskedRidge(tables))
        workspace = self._workspace(plan.workspace_bytes)
        self._kernel(plan, cells, fine, coarse, own, nonfinite=self._counter, workspace=workspace)

    def take_rows(self, table: Array, codes: Array, *, out: Array) -> None:
        """See `HostLine.take_rows`."""
        self._kernel(self.kernels.take_rows, table, codes, out=out)

    def modulate(self, error: Array, divergence: Array, *, from_largest: bool, out: Array) -> None:
        """See `HostLine.modulate`."""
        self._kernel(self.kernels.modulate, error, divergence, from_largest=from_largest, out=out)

    def larger_of_regions(self, fine: Array, coarse: Array, *, scales: tuple[float, float], out: Array) -> None:
        """See `HostLine.larger_of_regions`."""
        self._kernel(self.kernels.larger_of_regions, fine, coarse, scales=scales, out=out)

    def mask_maps(self, distances: Array, scores: Array, *, channels: int, **arrays: Array) -> None:
        """See `HostLine.mask_maps`."""
        self._kernel(self.kernels.mask_maps, distances, scores, channels=channels, **arrays)

    def join_branches(self, peak: Said[Projected], mean_deviation: Array, **settings: Any) -> None:
        """See `HostLine.join_branches`."""
        self._kernel(self.kernels.join_branches, peak.array, mean_deviation, **settings)

    def larger_capped(self, first: Array, second: Array, most: Array, *, out: Array) -> None:
        """See `HostLine.larger_capped`."""
        self._kernel(self.kernels.larger_capped, first, second, most, out=out)

    def on_host(self, what: str, _count: Callable[[], int]) -> None:
        """Refuse it: see `HostLine.on_host`."""
        raise NoCudaFormError(f"{what} is computed on the CPU")

    # ---- frames

    def enqueue(self, image: NDArray[Any]) -> None:
        """Enqueue all steps for a frame, which stays as it is until `wait`."""
        with self._working():
            if self._pending:
                self.stream.synchronize()
            started = time.perf_counter_ns()
            self._upload.take(image)
            self._started_ns = time.perf_counter_ns()
            self._stages_us["pre"] = (self._started_ns - started) / 1e3
            captured = self._captured.get(self._upload.address)
            self._enqueue_steps() if captured is None else captured.launch()
            self._pending = True

    def wait(self) -> dict[str, float]:
        """Wait for the frame enqueued last; return the time of its copy to pinned memory and of all work on the GPU, in µs."""
        with self._working():
            self.stream.synchronize()
            self._pending = False
            self._stages_us["infer"] = (time.perf_counter_ns() - self._started_ns) / 1e3
            if self._capturing and self._upload.address not in self._captured:
                self._capture()
            self._upload.release()
        return {**self._stages_us, "post": 0.0}

    def close(self) -> None:
        """Free what belongs to the line; the engines stay open."""
        with self._working():
            self.stream.synchronize()
            while self._captured:
                self._captured.popitem()[1].close()
            self._pending = False
            self.steps.clear()
            self.results.close()

    def _enqueue_steps(self) -> None:
        if not self._open:
            self.results.open()
            self._open = True
        self.stream.clear(self._counter)
        for step in self.steps:
            step()
        self.results.download(self.stream)

    def _capture(self) -> None:
        """After a frame that went step by step. What cannot be captured goes on as before."""
        reason = self.runtime.cannot_capture()
        try:
            if not reason:
                with self._working(), self.stream.capture() as work:
                    self._enqueue_steps()
                self._keep(work)
        except EngineError as exc:
            reason = str(exc.__context__ or exc)  # what broke the capture says more than that it is broken
        self._capturing = not reason
        self._path = f"{_STREAM}{reason}" if reason else "one CUDA graph"

    def _keep(self, work: CapturedWork) -> None:
        """Raises EngineError if what was captured does not give the last frame the results that it has."""
        came = self.results.take()
        work.launch()
        self.stream.synchronize()
        repeated = self.results.equals(came)
        self.results.put_back(came)
        if not repeated:
            work.close()
            raise EngineError("a frame has other results as a CUDA graph than step by step")
        if len(self._captured) >= _MOST_GRAPHS:
            self._captured.pop(next(iter(self._captured))).close()
        self._captured[self._upload.address] = work

    @contextmanager
    def _working(self) -> Iterator[None]:
        """The GPU is this thread's; what a kernel's launch refuses leaves as EngineError."""
        with self.cuda.active():
            try:
                yield
            except RuntimeError as exc:
                raise EngineError(f"the GPU failed: {exc}; see 'lad-edge doctor'") from exc

    def _kernel(self, kernel: Callable[..., None], *arrays: Any, **given: Any) -> None:
        self.steps.append(partial(kernel, *arrays, **given, stream=self.stream.handle))

    def _fuse(
        self, kernel: Callable[..., None], structural: Array, logical: Array, size: Sequence[int], given: dict[str, Any]
    ) -> Said[Fused]:
        result = self.shown(6, dtype=np.float64)
        workspace = self._workspace(self.kernels.fuse_workspace_bytes(size=size))
        self._kernel(kernel, structural, logical, size=size, **given, result=result, workspace=workspace)
        return Said(lambda: _fused(self.read(result)), result)

    def _prepared(self, plan: Any) -> Any:
        """A kernel with its constant tables on the GPU."""
        tables = self._workspace(plan.table_bytes)
        with self._working():
            plan.prepare(tables, stream=self.stream.handle)
            self.stream.synchronize()
        return plan

    def _workspace(self, size: int) -> DeviceArray:
        return self.cuda.array((size,), np.uint8)


def cuda_kernels() -> Any:
    """Import the CUDA kernels; MissingDependencyError where they were not compiled."""
    from lad_edge.kernels import cuda

    return cuda


def _fused(result: NDArray[np.float64]) -> Fused:
    score, y_px, x_px, structural, logical, nonfinite = result.tolist()
    return Fused(score, int(y_px), int(x_px), structural, logical, int(nonfinite))


def _projected(result: NDArray[np.float64]) -> Projected:
    score, y_px, x_px, nonfinite = result.tolist()
    return Projected(score, int(y_px), int(x_px), int(nonfinite))
