"""The fake GigE camera of Aravis with an input: a line on standard input is an edge, or a picture that is lost on its way.

Run by the Python that has Aravis: line_camera_program.py SERIAL XML. Its own description of itself knows Software and Line0, of
which Line0 does nothing. In the one that it gets here, an input Line1 stands where Software does, and `edge` writes the register
that a line would set.
"""

from __future__ import annotations

import sys
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
