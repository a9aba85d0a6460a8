"""python -m lad_edge.sources.worker DRIVER MEMORY MESSAGES: started by lad_edge.sources.child, not by hand.

MEMORY and MESSAGES are file descriptors; commands come through standard input. The request (JSON) lies in the memory: arguments
can be read by every user of the machine, and a URL may hold a password.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

from lad_edge.sources.ring import STATEMENT_SLOT
from lad_edge.sources.worker.serving import Outlet, die_with_parent, serve

# name → (module, class); the module is imported in the process that needs it
DRIVERS = {
    "v4l2": ("lad_edge.sources.worker.opencv", "V4l2Driver"),
    "rtsp": ("lad_edge.sources.worker.opencv", "StreamDriver"),
    "mjpeg": ("lad_edge.sources.worker.mjpeg", "MjpegDriver"),
    "genicam": ("lad_edge.sources.worker.genicam", "GenicamDriver"),
    "gst": ("lad_edge.sources.worker.gst", "PipelineDriver"),
}


def main() -> None:
    """Serves the driver that the arguments name."""
    die_with_parent()
    driver, memory, messages = sys.argv[1:]
    outlet = Outlet(int(memory), sys.stdin.fileno(), int(messages))
    request = json.loads(outlet.ring.read_text(STATEMENT_SLOT, outlet.ring.read(STATEMENT_SLOT).bytes))
    module, name = DRIVERS[driver]
    make = getattr(import_module(module), name)
    serve(outlet, lambda: make(request))


main()
