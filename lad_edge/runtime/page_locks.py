"""Frames that lie in memory which a camera's process shares: the GPU reads them where they are, without a copy of ours."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lad_edge.errors import EngineError
from lad_edge.runtime.libcuda import call

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from numpy.typing import NDArray

_MOST = 16  # frames of one camera lie in 7 slots; a camera that was opened anew has others


class LockedPages:
    """Pages that stay where they are, so that the GPU can read them by itself. Raises EngineError where the driver refuses that."""

    def __init__(self, pages: NDArray[np.uint8]) -> None:
        self._pages = pages  # kept: what is unmapped cannot be unlocked
        call("cuMemHostRegister_v2", self._pointer(), ctypes.c_size_t(pages.nbytes), 0)

    def close(self) -> None:
        """Unlock them; the GPU must be done with them."""
        call("cuMemHostUnregister", self._pointer())

    def _pointer(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._pages.ctypes.data)


class Closing(Protocol):
    """What lasts until it is closed."""

    def close(self) -> None:
        """End it."""
        ...


class PageLocks:
    """Locks the pages of a frame at its first sight, and knows them again. lock: does it; may raise EngineError.

    Only an array whose last base has the attribute `mapped` can be read in place, the mapping that it lies in: kept here, it cannot be
    unmapped while the GPU knows its pages, whatever becomes of the array. problem: why pages could not be locked, in words.
    Whoever calls it has the GPU's context active.
    """

    def __init__(self, lock: Callable[[NDArray[np.uint8]], Closing] = LockedPages) -> None:
        self._lock, self._locked = lock, dict[int, tuple[int, Closing]]()  # by address: bytes, and what `lock` gave
        self.problem = ""

    def __call__(self, frame: NDArray[Any]) -> bool:
        """Whether the GPU can read this frame in place."""
        mapped = getattr(_last_base(frame), "mapped", None)
        if mapped is None or self.problem or not frame.flags.c_contiguous:
            return False
        address = frame.ctypes.data
        if address not in self._locked:
            self._add(address, frame.nbytes, mapped)
        return address in self._locked and frame.nbytes <= self._locked[address][0]

    def clear(self) -> None:
        """Unlock all pages; the GPU must be done with them."""
        while self._locked:
            self._locked.popitem()[1][1].close()

    def _add(self, address: int, size: int, mapped: mmap.mmap) -> None:
        whole = np.frombuffer(mapped, np.uint8)
        start = address - whole.ctypes.data
        if not 0 <= start <= len(whole) - size:
            return
        if len(self._locked) >= _MOST:
            self._locked.pop(next(iter(self._locked)))[1].close()
        try:
            self._locked[address] = size, self._lock(whole[start : start + size])
        except EngineError as exc:
            self.problem = str(exc)


def _last_base(array: object) -> object:
    while isinstance(array, np.ndarray):
        array = array.base
    return array
