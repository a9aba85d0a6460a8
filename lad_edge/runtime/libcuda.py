"""The driver's own library, by its stable C interface: what pycuda has no words for."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from lad_edge.errors import EngineError
from lad_edge.runtime.gpu import LIBRARY


def call(name: str, *arguments: Any) -> None:
    """Call a function of libcuda, in the context that is active. Raises EngineError with the number of CUDA's error."""
    status = _function(name)(*arguments)
    if status:
        raise EngineError(f"CUDA failed: {name} gave error {status}; see 'lad-edge doctor'")


@cache
def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(LIBRARY), name)
