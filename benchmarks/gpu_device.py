"""The first GPU with memory of torch, as `gpu_cases` wants a device, and the time of what is enqueued on its stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

REPLAY_MS = 2.0  # a graph holds as many launches as take about so long: the time between launches then vanishes
MOST_LAUNCHES = 200


class Array:
    """Packed values on the GPU; kernels see `__cuda_array_interface__` alone."""

    def __init__(self, memory: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.memory, self.shape, self.dtype = memory, shape, dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        data = (int(self.memory.data_ptr()), False)
        return {"shape": self.shape, "typestr": self.dtype.str, "strides": None, "data": data, "version": 3}


class Gpu:
    """Arrays and a stream of the first GPU. Raises MissingDependencyError for an installation without CUDA kernels."""

    def __init__(self) -> None:
        import torch

        from lad_edge.kernels import cuda

        self.torch: Any = torch
        self.kernels: Any = cuda
        self.cuda_stream = self.torch.cuda.Stream()
        self.stream = int(self.cuda_stream.cuda_stream)

    def put(self, array: NDArray[Any]) -> Array:
        """A copy of it on the GPU."""
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        memory = self.torch.from_numpy(flat).cuda()
        self.torch.cuda.synchronize()
        return Array(memory, array.shape, array.dtype)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """An array of 0xff bytes, so that what is not written shows."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        memory = self.torch.full((size,), 0xFF, dtype=self.torch.uint8, device="cuda")
        self.torch.cuda.synchronize()
        return Array(memory, shape, kind)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """An array of zeros."""
        return self.put(np.zeros(shape, dtype))

    def workspace(self, size: int) -> Array:
        """So many bytes; torch's memory begins at multiples of 512."""
        return self.empty((size,), np.uint8)

    def counter(self) -> Array:
        """One that has counted nothing yet."""
        return self.zeros((1,), np.int64)

    def get(self, array: Array) -> NDArray[Any]:
        """What it holds when everything is done."""
        self.torch.cuda.synchronize()
        held: NDArray[np.uint8] = array.memory.cpu().numpy()
        return held.view(array.dtype).reshape(array.shape)

    def times_us(self, enqueue: Callable[[], object], replays: int = 20) -> list[float]:
        """µs of one launch, by CUDA events around each of so many replays of a CUDA graph of many launches."""
        cuda = self.torch.cuda
        graph = cuda.CUDAGraph()
        cuda.synchronize()  # what others made on their streams is there
        with cuda.stream(self.cuda_stream):
            enqueue()  # loads the kernel
            launches = int(REPLAY_MS / max(self._elapsed_ms(enqueue), REPLAY_MS / MOST_LAUNCHES)) or 1
            cuda.synchronize()
            with cuda.graph(graph, stream=self.cuda_stream):
                for _ in range(launches):
                    enqueue()
            graph.replay()
            return [1e3 * self._elapsed_ms(graph.replay) / launches for _ in range(replays)]

    def _elapsed_ms(self, enqueue: Callable[[], object]) -> float:
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(self.cuda_stream)
        enqueue()
        end.record(self.cuda_stream)
        end.synchronize()
        return float(begin.elapsed_time(end))
