"""A driver process whose driver does what its request says: `steps`, one word for each read; the rest of the process is real."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from lad_edge.sources.ring import STATEMENT_SLOT
from lad_edge.sources.worker.driver import DriverError, Room, Shot
from lad_edge.sources.worker.serving import Outlet, die_with_parent, now, serve


class ScriptedDriver:
    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.steps = iter(request["steps"])
        self.number = 0

    def open(self) -> str:
        if self.request.get("busy"):
            raise DriverError("scripted: somebody else has it", "CAMERA_BUSY")
        if self.request.get("hang_at_open"):
            time.sleep(60)
        return "scripted"

    def read(self, room: Room) -> Shot | None:
        step = next(self.steps, "frame")
        if step == "hang":
            time.sleep(60)
        if step == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if step == "lose":
            raise DriverError("scripted: the cable is out")
        if step == "raise":
            raise RuntimeError("scripted: a bug of the driver")
        if step == "nothing":
            time.sleep(0.01)
            return None
        time.sleep(self.request.get("period_s", 0.0))
        self.number += 1
        if step == "damaged":
            return Shot(*now(), fault="FRAME_INCOMPLETE", detail="scripted: half a frame", device_id=self.number)
        width, height = self.request.get("size", (4, 3))
        pixels = room()
        if pixels is not None:
            pixels[: width * height] = bytes([self.number % 256]) * (width * height)
        missing = 2 if step == "gap" else 0
        name = "pfnc_1234" if step == "odd" else "mono8"
        return Shot(*now(), width, height, width * height, name, self.number, missing)

    def trigger(self) -> None:
        raise DriverError("scripted: no trigger")

    def close(self) -> None:
        if self.request.get("hang_at_close"):
            time.sleep(60)


if __name__ == "__main__":
    die_with_parent()
    outlet = Outlet(int(sys.argv[1]), sys.stdin.fileno(), int(sys.argv[2]))
    wanted = json.loads(outlet.ring.read_text(STATEMENT_SLOT, outlet.ring.read(STATEMENT_SLOT).bytes))
    serve(outlet, lambda: ScriptedDriver(wanted))
