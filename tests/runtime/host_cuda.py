"""A driver on host memory (host_cuda.c), compiled for the test; only fresh interpreters see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from native_library import compile_library

SOURCE = Path(__file__).with_name("host_cuda.c")


def compile_driver(folder: Path) -> Path:
    """The folder with libcuda.so.1."""
    compile_library(SOURCE, folder / "libcuda.so.1", "-Wno-unused-parameter", "-Wl,-soname,libcuda.so.1")
    return folder


def python(driver: Path | None, code: str, gpu: int = 89) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with the driver of the tests, or the one of this machine; warnings are errors."""
    where = {} if driver is None else {"LD_LIBRARY_PATH": str(driver), "LAD_TEST_GPU": str(gpu)}
    start = "import ctypes, os, sys\nsys.setdlopenflags(os.RTLD_LAZY)\n"
    if driver is not None:
        start += "ctypes.CDLL('libcuda.so.1', ctypes.RTLD_GLOBAL)\n"
    words = [sys.executable, "-W", "error", "-c", start + code]
    return subprocess.run(words, env=os.environ | where, capture_output=True, text=True, check=False)
