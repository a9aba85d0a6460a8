"""The driver's own library, by its stable C interface: what pycuda has no words for."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from lad_edge.errors import EngineError, GpuFaultError, GpuMemoryError
from lad_edge.runtime.gpu import LIBRARY

_OUT_OF_MEMORY = 2
_LOST = frozenset(
    {46, 214, *range(700, 721), 999}
)  # CUresult: unavailable, ECC, from illegal address to launch failure, unknown


def call(name: str, *arguments: Any) -> None:
    """Call a function of libcuda, in the context that is active. Raises EngineError, or what it is precisely, with CUDA's number."""
    status = _function(name)(*arguments)
    if status:
        kind = GpuMemoryError if status == _OUT_OF_MEMORY else GpuFaultError if status in _LOST else EngineError
        raise kind(f"CUDA failed: {name} gave error {status}; see 'lad-edge doctor'")


@cache
def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(LIBRARY), name)
