"""CUDA through pycuda: one context, streams, events, pinned and device arrays. Nothing else imports pycuda.

A device array has `__cuda_array_interface__`, a stream its handle as an integer: the kernels of `lad_edge.kernels.cuda` and
TensorRT take both.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.errors import EngineError, GpuFaultError, GpuMemoryError, MissingDependencyError
from lad_edge.runtime.arrays import DeviceArray, Mirror
from lad_edge.runtime.captured import CapturedWork
from lad_edge.runtime.gpu import find_gpus
from lad_edge.runtime.page_locks import PageLocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray
    from typing_extensions import Self

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: nobody's work on the default stream holds ours up


class Cuda:
    """The primary context of a GPU, which the CUDA runtime of kernels and engines uses too.

    Used by one thread at a time: whatever needs the GPU runs inside `with cuda.active():`, in any thread. Raises EngineError
    where there is no GPU and MissingDependencyError without pycuda.
    """

    def __init__(self, ordinal: int = 0) -> None:
        driver = _driver()
        with _translated(driver):
            driver.init()
            self.context: Any = driver.Device(ordinal).retain_primary_context()
        self.stream = self.new_stream()
        self.reads_in_place = PageLocks()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current for this thread; errors of the driver leave as EngineError."""
        if self.context is None:
            raise EngineError("the GPU is closed; open it again")
        driver = _driver()
        with _translated(driver):
            self.context.push()
            try:
                yield
            finally:
                driver.Context.pop()

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return a host array that the GPU reads and writes by itself, without staging; filled with zeros."""
        with self.active():
            array: NDArray[Any] = _driver().pagelocked_zeros(shape, np.dtype(dtype))
        return array

    def array(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> DeviceArray:
        """Return an array on the GPU; its values are whatever was there."""
        kind = np.dtype(dtype)
        with self.active():
            return DeviceArray(shape, kind, _driver().mem_alloc(prod(shape) * kind.itemsize))

    def put(self, values: NDArray[Any]) -> DeviceArray:
        """Return a copy of an array on the GPU."""
        made = self.array(values.shape, values.dtype)
        with self.active():
            self.stream.upload(np.ascontiguousarray(values), made)
            self.stream.synchronize()
        return made

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """Return what an array on the GPU holds when everything that was enqueued is done."""
        copy = np.empty(array.shape, array.dtype)
        with self.active():
            self.stream.download(array, copy)
            self.stream.synchronize()
        return copy

    def mirror(self) -> Mirror:
        """Return an empty set of arrays that come to the host together."""
        return Mirror(self)

    def new_stream(self) -> Stream:
        """Return a stream that goes on beside the others."""
        with self.active():
            return Stream(_driver().Stream(_NON_BLOCKING))

    def event(self) -> Event:
        """Return a mark that stands nowhere yet; see `Stream.record`."""
        with self.active():
            return Event(_driver().Event())

    def close(self) -> None:
        """Let go of the context; arrays and streams made with it must be gone or unused."""
        if self.context is not None:
            try:
                with self.active():
                    self.reads_in_place.clear()
            finally:
                self.stream, context, self.context = None, self.context, None  # type: ignore[assignment]
                context.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Stream:
    """Work in the order of its calls; each returns before the work is done."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def handle(self) -> int:
        """The CUstream (cudaStream_t) as an integer."""
        return int(self._stream.handle)

    def upload(self, source: NDArray[Any], target: DeviceArray) -> None:
        """Copy a pinned array to the GPU."""
        _driver().memcpy_htod_async(target.pointer, source, self._stream)

    def download(self, source: DeviceArray, target: NDArray[Any]) -> None:
        """Copy from the GPU into a pinned array."""
        _driver().memcpy_dtoh_async(target, source.pointer, self._stream)

    def clear(self, array: DeviceArray) -> None:
        """Set an array to zeros."""
        _driver().memset_d8_async(array.pointer, 0, prod(array.shape) * array.dtype.itemsize, self._stream)

    def record(self, event: Event | None = None) -> Event:
        """Return a mark behind everything that was enqueued so far: `event`, which leaves its old place, or a new one."""
        event = event or Event(_driver().Event())
        event.event.record(self._stream)
        return event

    def after(self, event: Event) -> None:
        """Let what follows here wait for a mark of another stream."""
        self._stream.wait_for_event(event.event)

    @contextmanager
    def capture(self) -> Iterator[CapturedWork]:
        """Record what is enqueued inside instead of doing it; afterwards `launch` does all of it by one call.

        Raises EngineError if something inside cannot be captured.
        """
        work = CapturedWork(self.handle)
        work.begin()
        try:
            yield work
        finally:
            work.end()

    def synchronize(self) -> None:
        """Wait until everything is done; errors of the work appear here."""
        self._stream.synchronize()


class Event:
    """A mark in a stream."""

    def __init__(self, event: Any) -> None:
        self.event = event

    def elapsed_ms(self, earlier: Event) -> float:
        """Wait for the mark and return the time since an earlier one."""
        self.event.synchronize()
        return float(self.event.time_since(earlier.event))


@cache
def _driver() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a driver that does not fit, which is the ImportError too
            import pycuda.driver as driver
    except ImportError as exc:
        problem = find_gpus().problem
        raise MissingDependencyError(
            f"pycuda cannot be imported ({exc}){'; ' + problem if problem else ''}; pip install 'lad-edge[cuda]', which "
            "compiles it: that needs a C++ compiler and the CUDA toolkit with its nvcc first on PATH"
        ) from exc
    return driver


@contextmanager
def _translated(driver: Any) -> Iterator[None]:
    try:
        yield
    except driver.MemoryError as exc:
        raise GpuMemoryError(
            f"the GPU has too little free memory ({exc}); end what else uses it, see 'nvidia-smi'"
        ) from exc
    except driver.Error as exc:
        problem = find_gpus().problem
        kind = GpuFaultError if isinstance(exc, driver.LaunchError) else EngineError
        raise kind(f"CUDA failed: {exc}{'; ' + problem if problem else ''}; see 'lad-edge doctor'") from exc
