"""A GPU on this processor that computes for real: what is enqueued runs late, kernels are the .cu files on the host, networks ONNX Runtime.

Streams are queues. A queue runs when somebody waits for it, so that a step that somebody forgot to wait for is seen by its missing
result; with `eager` the streams beside the main one run as soon as they can, so that a step that should have waited is seen too. Memory
is filled with 0xff bytes, which are NaN.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lad_edge.errors import EngineError
from lad_edge.runtime.arrays import DeviceArray, Mirror
from lad_edge.runtime.page_locks import PageLocks

ALIGNMENT = 256


class Memory:
    """Host memory in the place of the GPU's."""

    def __init__(self, size: int) -> None:
        self.bytes = np.full(size + ALIGNMENT, 0xFF, np.uint8)

    def __int__(self) -> int:
        return -(-self.bytes.ctypes.data // ALIGNMENT) * ALIGNMENT


def view(array: DeviceArray) -> NDArray[Any]:
    """The values of an array, as numpy sees them."""
    return at_address(array.pointer, array.shape, array.dtype)


def at_address(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """What lies there."""
    raw = (ctypes.c_uint8 * (int(np.prod(shape)) * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype).reshape(shape)


class Work:
    """What was enqueued, by stream. A step is a call, or waits for a place in another stream."""

    def __init__(self) -> None:
        self.steps: dict[QueuedStream, list[Callable[[], None] | tuple[QueuedStream, int]]] = {}
        self.done: dict[QueuedStream, int] = {}

    def of(self, stream: QueuedStream) -> list[Any]:
        self.done.setdefault(stream, 0)
        return self.steps.setdefault(stream, [])

    def advance(self, stream: QueuedStream, end: int) -> None:
        """Do the steps of a stream before `end`, and those of others that they wait for."""
        steps = self.of(stream)
        while self.done[stream] < end:
            step = steps[self.done[stream]]
            self.done[stream] += 1
            self.advance(*step) if isinstance(step, tuple) else step()

    def finish(self, stream: QueuedStream) -> None:
        self.advance(stream, len(self.of(stream)))


class QueuedEvent:
    """A mark: a stream and how many steps were before it, in the work that it was recorded in."""

    place: tuple[Work, QueuedStream, int]


class CapturedQueues:
    """Work to be done again and again: `launch` enqueues all of it."""

    def __init__(self, main: QueuedStream) -> None:
        self.main, self.work = main, Work()
        self.closed = False

    def launch(self) -> None:
        assert not self.closed
        self.main.gpu.calls.append("launch")
        self.main.do(self._run)

    def _run(self) -> None:
        self.work.done = dict.fromkeys(self.work.steps, 0)
        streams = list(self.work.steps)
        if self.main.gpu.eager:
            streams = [*streams[1:], self.main]
        for stream in streams:
            self.work.finish(stream)

    def close(self) -> None:
        self.closed = True


class QueuedStream:
    """The interface of `lad_edge.runtime.device.Stream`."""

    def __init__(self, gpu: QueuedGpu, handle: int) -> None:
        self.gpu, self.handle = gpu, handle

    def do(self, step: Callable[[], None] | tuple[QueuedStream, int]) -> None:
        work = self.gpu.work_of(self)
        work.of(self).append(step)
        if self.gpu.eager and self is not self.gpu.stream and work is self.gpu.work:
            work.finish(self)

    def upload(self, source: NDArray[Any], target: DeviceArray) -> None:
        self.gpu.calls.append("upload")
        address, shape, dtype = source.ctypes.data, source.shape, source.dtype  # a GPU keeps no array alive
        self.do(lambda: np.copyto(view(target), at_address(address, shape, dtype), casting="no"))

    def download(self, source: DeviceArray, target: NDArray[Any]) -> None:
        self.gpu.calls.append("download")
        self.do(lambda: np.copyto(target, view(source), casting="no"))

    def clear(self, array: DeviceArray) -> None:
        self.do(lambda: view(array).fill(0))

    def record(self, event: QueuedEvent) -> QueuedEvent:
        work = self.gpu.work_of(self)
        event.place = work, self, len(work.of(self))
        return event

    def after(self, event: QueuedEvent) -> None:
        work, stream, index = event.place
        if self.gpu.captured is not None and work is self.gpu.captured.work:
            self.gpu.capturing.add(self)
        self.do((stream, index))

    def synchronize(self) -> None:
        self.gpu.calls.append("synchronize")
        self.gpu.work.finish(self)

    @contextmanager
    def capture(self) -> Iterator[CapturedQueues]:
        self.gpu.captured = CapturedQueues(self)
        self.gpu.capturing = {self}
        self.gpu.calls.append("capture")
        try:
            yield self.gpu.captured
        except Exception:
            raise EngineError("CUDA failed: cuStreamEndCapture gave error 901")  # noqa: B904 - STREAM_CAPTURE_INVALIDATED
        finally:
            captured, self.gpu.captured, self.gpu.capturing = self.gpu.captured, None, set()
        captured.work.done = dict.fromkeys(captured.work.steps, 0)
        waited = [step for step in captured.work.steps[self] if isinstance(step, tuple)]
        for stream, steps in captured.work.steps.items():
            if stream is not self and (stream, len(steps)) not in waited:
                raise EngineError(
                    "CUDA failed: cuStreamEndCapture gave error 904"
                )  # CUDA_ERROR_STREAM_CAPTURE_UNJOINED


class QueuedGpu:
    """The interface of `lad_edge.runtime.device.Cuda`; `calls` is what was enqueued, in order."""

    def __init__(self, *, eager: bool = False) -> None:
        self.eager, self.calls, self.work = eager, list[str](), Work()
        self.captured: CapturedQueues | None = None
        self.capturing: set[QueuedStream] = set()
        self.streams: list[QueuedStream] = []
        self.reads_in_place = PageLocks(self._lock_pages)
        self.refuses_pages = ""
        self.stream = self.new_stream()

    def work_of(self, stream: QueuedStream) -> Work:
        return self.captured.work if self.captured is not None and stream in self.capturing else self.work

    def new_stream(self) -> QueuedStream:
        self.streams.append(QueuedStream(self, 70 + len(self.streams)))
        return self.streams[-1]

    @contextmanager
    def active(self) -> Iterator[None]:
        yield

    def event(self) -> QueuedEvent:
        return QueuedEvent()

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    def array(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> DeviceArray:
        kind = np.dtype(dtype)
        return DeviceArray(shape, kind, Memory(int(np.prod(shape)) * kind.itemsize))

    def _lock_pages(self, _pages: NDArray[np.uint8]) -> Any:
        if self.refuses_pages:
            raise EngineError(self.refuses_pages)
        self.calls.append("lock")
        return SimpleNamespace(close=lambda: self.calls.append("unlock"))

    def mirror(self) -> Mirror:
        return Mirror(self)  # type: ignore[arg-type]

    def put(self, values: NDArray[Any]) -> DeviceArray:
        made = self.array(values.shape, values.dtype)
        np.copyto(view(made), values)
        return made

    def get(self, array: DeviceArray) -> NDArray[Any]:
        self.stream.synchronize()
        return view(array).copy()


class QueuedKernels:
    """The functions and plans of the CUDA module, to be done when the queue of their stream comes to them."""

    def __init__(self, gpu: QueuedGpu, module: ModuleType) -> None:
        self.gpu, self.module = gpu, module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.module, name)
        if name.endswith("_bytes"):
            return found
        if isinstance(found, type):
            return lambda *given, **named: _Plan(self.gpu, name, found(*given, **named))
        return _enqueued(self.gpu, name, found)


class _Plan:
    def __init__(self, gpu: QueuedGpu, name: str, plan: Any) -> None:
        self.table_bytes, self.plan, self.run = plan.table_bytes, plan, _enqueued(gpu, name, plan)

    @property
    def workspace_bytes(self) -> Any:
        return self.plan.workspace_bytes

    def prepare(self, tables: DeviceArray, *, stream: int) -> None:
        self.plan.prepare(tables, stream=0)

    def __call__(self, *given: Any, **named: Any) -> None:
        self.run(*given, **named)


def _enqueued(gpu: QueuedGpu, name: str, kernel: Callable[..., None]) -> Callable[..., None]:
    def call(*given: Any, stream: int, **named: Any) -> None:
        gpu.calls.append(name)
        queue = next(one for one in gpu.streams if one.handle == stream)
        queue.do(lambda: kernel(*given, stream=0, **named))

    return call


class QueuedRuntime:
    """Networks of a runtime of the CPU, on arrays of the queued GPU."""

    def __init__(self, gpu: QueuedGpu, engine: Any, refuses: str = "") -> None:
        self.cuda, self.engine, self.refuses = gpu, engine, refuses
        self.recorded: list[bool] = []  # of each run, whether its arrays come again
        self.views: dict[tuple[int, tuple[int, ...]], NDArray[Any]] = {}

    records_itself = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def enqueue(self, graph: str, stream: QueuedStream, recording: bool = False, /, **arrays: DeviceArray) -> None:
        self.cuda.calls.append(graph)
        self.recorded.append(recording)
        views = {name: self._view(array) for name, array in arrays.items()}
        stream.do(lambda: self.engine.run(graph, **views))

    def cannot_capture(self) -> str:
        return self.refuses

    def _view(self, array: DeviceArray) -> NDArray[Any]:
        """One and the same for each array: engines know their buffers by identity."""
        return self.views.setdefault((array.pointer, array.shape), view(array))
