"""A C source of the tests goes in, a shared library comes out; whoever can build lad-edge has the compiler."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def compile_library(source: Path, library: Path, *words: str) -> Path:
    """By $CC or `cc`, which every compiler of C++ brings along. Raises OSError, CalledProcessError."""
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", str(source), *words]
    subprocess.run([*command, "-o", str(library)], check=True)
    return library
