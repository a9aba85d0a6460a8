"""How long a PLC waits for a result that costs nothing: python -m benchmarks.plc.

A line with a camera that delivers at once and an engine that does nothing, served over Modbus TCP on loopback. `lad-edge io fake-plc` in a
process of its own writes TRIGGER and polls for RESULT_VALID; the same times are taken inside the line, from trigger to result shown. The
figures count only if the fake PLC finds no step wrong and counts what the line counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.harness import Contest, Timing, finish, options, show, start
from lad_edge.plc import open_plc
from lad_edge.plc.station import Plc
from lad_edge.sources.source import frame_now
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.parts import Parts
from lad_edge.stream.watchdog import Beats
from lad_edge.values import Frame, Reason, Result, Verdict

_PARTS = 1000  # in a round
_PICTURE = np.zeros((1024, 1280, 3), np.uint8)
_FAKE_PLC = "import sys; from lad_edge.cli import main; sys.exit(main())"


class Camera:
    """Hardware-triggered, without exposure: a picture as soon as a part waits for one."""

    name, live, free_running = "camera", True, False

    def __init__(self) -> None:
        self.parts: Parts | None = None
        self._delivered = 0
        self._interrupted = threading.Event()

    def open(self) -> None:
        """Nothing to open."""

    def read(self) -> Frame | None:
        """One picture for each part."""
        while not self._interrupted.is_set():
            if self.parts is not None and self.parts.triggered > self._delivered:
                self._delivered += 1
                return frame_now("camera", _PICTURE)
            if self.parts is not None:
                self.parts.wait_for_change(0.05)
        return None

    def close(self) -> None:
        """Nothing to close."""

    def trigger(self) -> None:
        """Nothing waits for it."""

    def interrupt(self) -> None:
        """Ends `read`."""
        self._interrupted.set()


class NullInspector:
    """Every part is OK at once."""

    threshold = 1.0
    bundle = SimpleNamespace(sha256="")

    def inspect(self, frame: Frame) -> Result:
        """OK."""
        reasons = (Reason.SCORE_WITHIN_LIMIT,)
        return Result(frame.seq, frame.frame_id, Verdict.OK, reasons, frame.captured_ns, frame.utc_ns, 0.5, 1.0)


class Inside:
    """A sink behind the PLC: microseconds from the picture of a part, right after its trigger, until its result was shown."""

    def __init__(self) -> None:
        self.samples_us: list[float] = []

    def write(self, frame: Frame, _result: Result) -> None:
        """Its result is shown by now."""
        self.samples_us.append((time.monotonic_ns() - frame.captured_ns) / 1e3)

    def close(self) -> None:
        """Nothing to close."""


def main() -> None:
    """Rounds of parts, each by a new PLC."""
    arguments = options(__doc__ or "").parse_args()
    pace = start(arguments)
    stopping, beats, inside, camera = threading.Event(), Beats(), Inside(), Camera()
    plc = open_plc("modbus://127.0.0.1:0", beats, print)
    line = Line(camera, NullInspector(), [plc, inside], LineOptions(trigger=plc, stop=stopping.is_set))  # type: ignore[arg-type]
    line.beat = lambda: beats.beat("line")
    camera.parts = line.parts
    thread = threading.Thread(target=line.run)
    thread.start()
    accounts = [_witness(plc) for _ in range(pace.rounds)]
    stopping.set()
    thread.join()
    plc.close()
    contest = _contest(inside.samples_us, accounts)
    show(contest)
    finish(arguments, [contest])


def _witness(plc: Plc) -> dict[str, Any]:
    """What the fake PLC says of one round."""
    words = ("io", "fake-plc", f"modbus://127.0.0.1:{plc.port}", "--parts", str(_PARTS), "--json")
    told = subprocess.run([sys.executable, "-c", _FAKE_PLC, *words], check=True, capture_output=True, text=True)
    account: dict[str, Any] = json.loads(told.stdout)
    assert account["clean"]
    assert account["verdicts"]["OK"] == _PARTS
    return account


def _contest(samples_us: list[float], accounts: list[dict[str, Any]]) -> Contest:
    rounds = [np.array(samples_us[i : i + _PARTS]) for i in range(0, len(samples_us), _PARTS)]
    inside = min(rounds, key=lambda taken: float(np.median(taken)))
    p50, p95, p99 = np.percentile(inside, (50, 95, 99))
    seen = min((account["trigger_to_result_ms"] for account in accounts), key=lambda times: times["p50"])
    outside = [1e3 * float(seen[name]) for name in ("p50", "p95", "p99", "max")]
    return Contest(
        "from TRIGGER to RESULT_VALID, engine and camera take no time",
        (
            Timing("at the PLC", outside[0], outside[1], outside[2], outside[3], _PARTS, len(accounts)),
            Timing("inside the line", float(p50), float(p95), float(p99), float(inside.max()), _PARTS, len(rounds)),
        ),
        notes={"at the PLC": "it polls every 0.5 ms"},
    )


if __name__ == "__main__":
    main()
