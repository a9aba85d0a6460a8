"""Arrays on a GPU, and those that come to the host together: shapes, addresses and views, whoever allocates the memory."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from lad_edge.runtime.device import Cuda, Stream

_ALIGNMENT = 256  # bytes: of every array in a block, as the driver aligns each allocation
_REPEATED = 1e-2  # of the largest value: sums in another order, rounded to f16; what was not computed is far away


class DeviceArray:
    """C-contiguous memory on the GPU. allocation: keeps it and is its address, as an integer; offset: in bytes."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], allocation: Any, offset: int = 0) -> None:
        self.shape, self.dtype, self._allocation, self._offset = shape, dtype, allocation, offset

    @property
    def pointer(self) -> int:
        """Address on the device."""
        return int(self._allocation) + self._offset

    def __getitem__(self, part: int | slice) -> DeviceArray:
        """Return one entry of the first axis, or several in a row; nothing is copied."""
        entries = range(self.shape[0])[part]
        inner = self.shape[1:]
        if isinstance(entries, int):
            first, shape = entries, inner
        elif entries.step == 1 and entries:
            first, shape = entries.start, (len(entries), *inner)
        else:
            raise IndexError(f"a part of an array on the GPU is one entry or several in a row, not [{part}]")
        return DeviceArray(
            shape, self.dtype, self._allocation, self._offset + first * prod(inner) * self.dtype.itemsize
        )

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the interface; the caller's stream orders the accesses."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
        }


class Mirror:
    """Arrays on the GPU in one block of memory, and pinned copies of them: one transfer brings all of them to the host.

    They are named one by one and allocated together: `open` comes between the last name and the first use.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._bytes = cuda, 0
        self._offsets: dict[int, tuple[DeviceArray, int]] = {}  # by identity of the array
        self._block: DeviceArray | None = None
        self._pinned: NDArray[np.uint8] | None = None

    def __int__(self) -> int:
        """Address of the block."""
        if self._block is None:
            raise EngineError("the arrays of a mirror are used before it is open")
        return self._block.pointer

    def array(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> DeviceArray:
        """Return an array whose values the host will see."""
        named = DeviceArray(shape, np.dtype(dtype), self, self._bytes)
        self._offsets[id(named)] = named, self._bytes
        self._bytes += -(-prod(shape) * named.dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        return named

    def open(self) -> None:
        """Allocate the memory on both sides."""
        self._block = self._cuda.array((self._bytes,), np.uint8)
        self._pinned = self._cuda.pinned((self._bytes,), np.uint8)

    def download(self, stream: Stream) -> None:
        """Enqueue the transfer."""
        assert self._block is not None  # noqa: S101 - opened
        assert self._pinned is not None  # noqa: S101 - opened
        stream.download(self._block, self._pinned)

    def take(self) -> NDArray[np.uint8]:
        """Return the bytes that came last, and forget them."""
        assert self._pinned is not None  # noqa: S101 - opened
        came: NDArray[np.uint8] = self._pinned.copy()
        self._pinned.fill(0xFF)  # as float a NaN, which equals nothing
        return came

    def put_back(self, came: NDArray[np.uint8]) -> None:
        """As if these bytes had come last."""
        assert self._pinned is not None  # noqa: S101 - opened
        np.copyto(self._pinned, came)

    def equals(self, came: NDArray[np.uint8]) -> bool:
        """Whether all arrays have the values of these bytes, but for rounding."""
        return all(
            _equal(self._view(array, offset), self._view(array, offset, came))
            for array, offset in self._offsets.values()
        )

    def on_host(self, array: DeviceArray) -> NDArray[Any] | None:
        """Return a view of the pinned copy of one of its arrays, None for any other array."""
        found = self._offsets.get(id(array))
        return None if found is None or self._pinned is None else self._view(*found)

    def close(self) -> None:
        """Free the memory; views of the pinned copies keep theirs."""
        self._block = self._pinned = None
        self._offsets.clear()

    def _view(self, array: DeviceArray, offset: int, held: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        held = self._pinned if held is None else held
        assert held is not None  # noqa: S101 - opened
        size = prod(array.shape) * array.dtype.itemsize
        view: NDArray[Any] = held[offset : offset + size].view(array.dtype).reshape(array.shape)
        return view


def _equal(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    largest = float(np.abs(expected, where=np.isfinite(expected), out=np.zeros(expected.shape)).max(initial=0.0))
    return np.allclose(found, expected, rtol=0, atol=_REPEATED * largest, equal_nan=True)
