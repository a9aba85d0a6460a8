"""TensorRT and TensorRT-RTX: engines of a plan go in, filled buffers come out. The only file that knows their runtime.

Both flavours have one interface; engines are built in `compiler.py`, never here.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from importlib import import_module
from typing import Any

from lad_edge.errors import MissingDependencyError

EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}  # runtime → extra of the installation


@cache
def package(runtime: str) -> Any:
    """Import a flavour of TensorRT; MissingDependencyError with the command where it is not installed."""
    try:
        return import_module(runtime)
    except (ImportError, OSError) as exc:  # its loader raises OSError for a library that is not there
        extra = EXTRAS[runtime]
        raise MissingDependencyError(f"{runtime} cannot be imported ({exc}); pip install 'lad-edge[{extra}]'") from exc


def version(runtime: str) -> str:
    """Return the version of an installed flavour; MissingDependencyError with the command otherwise."""
    return str(package(runtime).__version__)


@cache
def logger(runtime: str) -> Any:
    """Return the one logger of the process: TensorRT takes one, and its reasons stand nowhere else."""
    trt = package(runtime)

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps the last errors."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=4)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

        def last(self) -> str:
            return sentence(self.errors[-1]) if self.errors else "no reason given"

    return Log()


def sentence(text: str) -> str:
    """Return a message of several lines on one."""
    return " ".join(text.split())[:300] or "no reason given"
