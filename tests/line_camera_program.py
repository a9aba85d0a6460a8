"""The fake GigE camera of Aravis with an input: a line on standard input is an edge, a lost picture, or a register.

Run by the Python that has Aravis: line_camera_program.py SERIAL XML. Its own description of itself knows Software and Line0, of
which Line0 does nothing. In the one that it gets here, an input Line1 stands where Software does, and `edge` writes the register
that a line would set; it has a TriggerDelay and an ExposureAuto, too. `read ADDRESS` and `write ADDRESS VALUE` are for registers.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_EDGE_REGISTER = 0x30C
DELAY_REGISTER, EXPOSURE_AUTO_REGISTER, GAIN_AUTO_REGISTER = 0x1E0, 0x1E4, 0x114
OFF, CONTINUOUS = 1, 2  # of GainAuto and ExposureAuto


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
    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "edge":
            inside.write_register(_EDGE_REGISTER, 1)
        elif word == "read":
            print(inside.read_register(int(numbers[0])).value, flush=True)
        elif word == "write":
            inside.write_register(*map(int, numbers))
        else:  # it is exposed, and no packet of it leaves
            inside.fill_buffer(Aravis.Buffer.new_allocate(inside.get_payload()))


def with_an_input(description: str) -> str:
    """Line1 in the place of Software, with two kinds of edges and a delay; and an automatic exposure."""
    rising = '<EnumEntry Name="RisingEdge" NameSpace="Standard">\n\t\t\t<Value>0</Value>\n\t\t</EnumEntry>'
    assert description.count(rising) == 1
    falling = rising.replace("RisingEdge", "FallingEdge").replace(">0<", ">1<")
    with_line = description.replace('Name="Software"', 'Name="Line1"').replace(rising, f"{rising}\n\t\t{falling}")
    exposure_time = _between(description, '<Float Name="ExposureTimeAbs"', "</IntReg>")
    delay = exposure_time.replace("ExposureTimeAbs", "TriggerDelay").replace("0x120", f"{DELAY_REGISTER:#x}")
    gain_auto = _between(description, '<Enumeration Name="GainAuto"', "</IntReg>")
    exposure_auto = gain_auto.replace("GainAuto", "ExposureAuto").replace("0x114", f"{EXPOSURE_AUTO_REGISTER:#x}")
    return with_line.replace(gain_auto, gain_auto + delay + exposure_auto)


def _between(text: str, first: str, last: str) -> str:
    found = re.search(f"{re.escape(first)}.*?{re.escape(last)}", text, re.DOTALL)
    assert found is not None
    return found[0]


if __name__ == "__main__":
    serve(*sys.argv[1:])
