"""What the two kinds of line have in common: the words that scorers use of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lad_edge.errors import EngineError

if TYPE_CHECKING:
    from typing import TypeAlias

    from lad_edge.scoring.cuda_line import CudaLine
    from lad_edge.scoring.host_line import HostLine

    Line: TypeAlias = HostLine | CudaLine

Array = Any  # a numpy array, or on a GPU one of `lad_edge.runtime.device`: both have a shape and contiguous parts by [index]

R = TypeVar("R")


class NoCudaFormError(EngineError):
    """A step has no form on the GPU; the message says which."""


class Said(Generic[R]):
    """What a kernel said of the frame before the last `wait`. array: where a GPU keeps it, None on the CPU."""

    def __init__(self, read: Callable[[], R], array: Array = None) -> None:
        self._read, self.array = read, array

    @property
    def value(self) -> R:
        """The kernel's own result."""
        return self._read()
