"""The fake GigE camera of Aravis with an input: a line on standard input is an edge, or a picture that is lost on its way.

Run by the Python that has Aravis: line_camera.py SERIAL XML. Its own description of itself knows Software and Line0, of which Line0 does
nothing. In the one that it gets here, an input Line1 stands where Software does, and `edge` writes the register that a line would set.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_EDGE_REGISTER = 0x30C


def serve(serial: str, xml: str) -> None:
    """In the process of the camera."""
    import gi

    gi.require_version("Aravis", "0.8")
    from gi.repository import Aravis

    description, _ = Aravis.FakeCamera.new(serial).get_genicam_xml()
    Path(xml).write_text(with_an_input(description))
    camera = Aravis.GvFakeCamera.new_full("lo", serial, xml)
    inside = camera.get_fake_camera()
    print("running" if camera.is_running() else "taken", flush=True)
    for word in sys.stdin:
        if word == "edge\n":
            inside.write_register(_EDGE_REGISTER, 1)
        else:  # it is exposed, and no packet of it leaves
            inside.fill_buffer(Aravis.Buffer.new_allocate(inside.get_payload()))


def with_an_input(description: str) -> str:
    """Line1 in the place of Software, with two kinds of edges."""
    rising = '<EnumEntry Name="RisingEdge" NameSpace="Standard">\n\t\t\t<Value>0</Value>\n\t\t</EnumEntry>'
    assert description.count(rising) == 1
    falling = rising.replace("RisingEdge", "FallingEdge").replace(">0<", ">1<")
    return description.replace('Name="Software"', 'Name="Line1"').replace(rising, f"{rising}\n\t\t{falling}")


if __name__ == "__main__":
    serve(*sys.argv[1:])
else:
    import gige_camera
    from gige_camera import GigeCamera

    from lad_edge.sources.interpreters import interpreter

    class LineCamera(GigeCamera):
        """`edge` and `lose` are what happens at its input."""

        def __init__(self, serial: str, folder: Path) -> None:
            self._command = [interpreter("genicam"), __file__, serial, str(folder / "camera.xml")]
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
