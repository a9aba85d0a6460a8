"""A GigE Vision camera with an input on the loopback (line_camera_program.py), and what happens at the input."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gige_camera
from gige_camera import GigeCamera

from lad_edge.sources.interpreters import interpreter

_PROGRAM = Path(__file__).with_name("line_camera_program.py")


class LineCamera(GigeCamera):
    """`edge` and `lose` are what happens at its input; its registers can be looked at."""

    def __init__(self, serial: str, folder: Path) -> None:
        self._command = [interpreter("genicam"), str(_PROGRAM), serial, str(folder / "camera.xml")]
        self.uri = f"genicam://{serial}"
        self.plug_in()

    def plug_in(self) -> None:
        self.process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"running\n", "a fake camera is running on this machine already"

    def pull_out(self) -> None:
        super().pull_out()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def edge(self) -> None:
        """A part has reached the sensor."""
        self._tell(b"edge\n")

    def lose(self) -> None:
        """A part whose picture never arrives."""
        self._tell(b"lose\n")

    def read(self, register: int) -> int:
        """What the register holds, after everything that was told before."""
        assert self.process.stdout is not None
        self._tell(b"read %d\n" % register)
        return int(self.process.stdout.readline())

    def write(self, register: int, value: int) -> None:
        """As another program has left it."""
        self._tell(b"write %d %d\n" % (register, value))

    def _tell(self, word: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word)
        self.process.stdin.flush()


@contextmanager
def line_camera(folder: Path, serial: str = "LAD-1") -> Iterator[LineCamera]:
    """A camera while the block runs; the test is skipped where the Debian packages are missing."""
    gige_camera.need()
    camera = LineCamera(serial, folder)
    try:
        yield camera
    finally:
        camera.pull_out()
