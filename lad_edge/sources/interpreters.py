"""A driver goes in; the Python that can run it comes out, and the environment that its process gets."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from lad_edge.errors import MissingDependencyError

# Nothing that loads code (reliability.md B14).
_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "XDG_RUNTIME_DIR")
_BINDINGS = {"genicam": ("Aravis", "0.8"), "gst": ("Gst", "1.0")}  # drivers that need GObject introspection
_SYSTEM_PYTHON = "/usr/bin/python3"
_PACKAGES = {
    "genicam": "python3-gi gir1.2-aravis-0.8",
    "gst": "python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good",
}


def environment() -> dict[str, str]:
    """What a driver process gets to see, and where it finds lad_edge."""
    here = str(Path(__file__).resolve().parents[2])
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"PYTHONPATH": here}


def interpreter(driver: str) -> str:
    """The Python that has the driver's bindings: this one, or that of the system. Raises MissingDependencyError."""
    if driver not in _BINDINGS or _has_bindings(sys.executable, driver):
        return sys.executable
    if _has_bindings(_SYSTEM_PYTHON, driver):
        return _SYSTEM_PYTHON
    raise MissingDependencyError(
        f"{driver}:// needs {_BINDINGS[driver][0]} with its GObject introspection; sudo apt install {_PACKAGES[driver]}"
    )


@cache
def _has_bindings(python: str, driver: str) -> bool:
    if not Path(python).exists():
        return False
    namespace, version = _BINDINGS[driver]
    test = f"import gi; gi.require_version('{namespace}', '{version}'); import gi.repository.{namespace}"
    command = [python, "-c", test]
    asked = subprocess.run(command, env=environment(), cwd="/", capture_output=True, check=False)  # noqa: S603 - ours
    return asked.returncode == 0
