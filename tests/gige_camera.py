"""The fake GigE Vision camera of Aravis on the loopback: real GVCP and GVSP, and a process that can be stopped and killed."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pluggable import Pluggable

from lad_edge.errors import MissingDependencyError
from lad_edge.sources.interpreters import interpreter

PROGRAM = "arv-fake-gv-camera-0.8"


class GigeCamera(Pluggable):
    """One camera at 127.0.0.1; its address is fixed, so there is only one at a time."""

    def __init__(self, serial: str, lost_per_mille: int = 0) -> None:
        self._command = [PROGRAM, "-i", "lo", "-s", serial, "-r", str(lost_per_mille)]
        self.uri = f"genicam://{serial}"
        self.plug_in()

    def plug_in(self) -> None:
        """Starts the camera. A port that is still in use means that another test has one."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.1)  # an address that is taken ends the process at once
        assert self.process.poll() is None, "a fake camera is running on this machine already"


@contextmanager
def gige_camera(serial: str = "LAD-1", lost_per_mille: int = 0) -> Iterator[GigeCamera]:
    """A camera while the block runs; the test is skipped where the Debian packages are missing."""
    need()
    camera = GigeCamera(serial, lost_per_mille)
    try:
        yield camera
    finally:
        camera.pull_out()


def need() -> None:
    """Skips the test where there is no fake camera, or no Aravis for Python."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is missing: apt install aravis-tools")
    try:
        interpreter("genicam")
    except MissingDependencyError as exc:
        pytest.skip(str(exc))
