"""What stands around a line, as real processes on the loopback: `lad-edge run` itself, a fake PLC, cameras, a broker.

Cameras and broker are those of the tests; what they need is in the system's packages (mosquitto, aravis-tools, gir1.2-aravis-0.8,
gir1.2-gst-rtsp-server-1.0).
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(_TESTS), str(_TESTS / "outputs"), str(_TESTS / "dashboard")]

import tiny  # type: ignore[import-not-found]  # noqa: E402 - it lies in the tests
from broker import Broker, Gate, Subscriber, free_port  # type: ignore[import-not-found]  # noqa: E402
from gige_camera import gige_camera  # type: ignore[import-not-found]  # noqa: E402
from page_samples import first, viewing  # type: ignore[import-not-found]  # noqa: E402
from rtsp_server import rtsp_server  # type: ignore[import-not-found]  # noqa: E402

__all__ = [
    "Broker",
    "FakePlc",
    "Gate",
    "RunningLine",
    "Subscriber",
    "first",
    "free_port",
    "gige_camera",
    "rtsp_server",
    "running_line",
    "tiny_engine",
    "until",
    "viewing",
]

_START_S, _STOP_S = 60.0, 15.0
_PROGRAM = "import sys; from lad_edge.cli import main; sys.exit(main())"


def tiny_engine(folder: Path) -> Path:
    """An engine that costs next to nothing and takes colour pictures of any size."""
    engine: Path = tiny.write_bundle(folder / "tiny.lad", tiny.Recipe(geometry=(None, None)))
    return engine


class RunningLine:
    """`lad-edge run` as its user starts it. `told`: its lines for a person so far."""

    def __init__(self, *words: object, on_record: Callable[[str], None] | None = None) -> None:
        """on_record: is given each line of its standard output, on a thread of its own."""
        self.told: list[str] = []
        self._heard = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "run", *map(str, words)],
            stdout=subprocess.DEVNULL if on_record is None else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [threading.Thread(target=self._listen, daemon=True)]
        if on_record is not None:
            self._readers.append(threading.Thread(target=self._pass_on, args=(on_record,), daemon=True))
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self.process.pid

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first of its lines that fits. Raises AssertionError with what it said instead."""
        with self._heard:
            if not self._heard.wait_for(lambda: self._find(pattern) or self._ended, _START_S) or not self._find(
                pattern
            ):
                raise AssertionError(f"'{pattern}' never came; it said {self.told}")
        return next(found for line in self.told if (found := re.search(pattern, line)))

    def stop(self) -> None:
        """Asks it to end. Raises AssertionError when it does not end well."""
        self.process.send_signal(signal.SIGTERM)
        self.finish()

    def finish(self) -> None:
        """Waits for its end. Raises AssertionError when it does not end well."""
        status = self.process.wait(_STOP_S)
        self.close()
        assert status == 0, (status, self.told)

    def close(self) -> None:
        """Ends it at once if it still runs."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(_STOP_S)
        for pipe in filter(None, (self.process.stdout, self.process.stderr)):
            pipe.close()

    def stage_ms(self, stage: str) -> dict[str, float]:
        """p50, p95, p99 and max that it told of a stage at its end."""
        values = self.wait_for(rf"^ +{stage}((?: +[\d.]+){{4}})$")[1].split()
        return dict(zip(("p50", "p95", "p99", "max"), map(float, values), strict=True))

    @property
    def _ended(self) -> bool:
        return not self._readers[0].is_alive()

    def _find(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in self.told)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.told.append(line.rstrip("\n"))
                self._heard.notify_all()

    def _pass_on(self, on_record: Callable[[str], None]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            on_record(line)


@contextmanager
def running_line(*words: object, on_record: Callable[[str], None] | None = None) -> Iterator[RunningLine]:
    """A line while the block runs, past its self-test. Raises AssertionError when it does not end well."""
    with closing(RunningLine(*words, on_record=on_record)) as line:
        line.wait_for("self-test passed")
        yield line
        line.stop()


class FakePlc:
    """`lad-edge io fake-plc` in a process of its own."""

    def __init__(self, port: int, parts: int, *words: object) -> None:
        command = [
            sys.executable,
            "-c",
            _PROGRAM,
            "io",
            "fake-plc",
            f"modbus://127.0.0.1:{port}",
            "--parts",
            str(parts),
        ]
        self.process = subprocess.Popen([*command, "--json", *map(str, words)], stdout=subprocess.PIPE, text=True)

    def account(self) -> dict[str, Any]:
        """What it says at its end. Raises AssertionError when a step was wrong or the counts differ."""
        told = self.process.communicate()[0]
        account: dict[str, Any] = json.loads(told)
        assert account["clean"], account
        return account


def until(condition: Callable[[], object], limit_s: float) -> bool:
    """Waits for what other processes do; False when it has not come by then."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True
