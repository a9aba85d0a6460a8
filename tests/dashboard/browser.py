"""A real Chromium without a window, driven through its debugging pipe (DevTools protocol: JSON between NUL bytes)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")
WAIT_S = 20.0


class Page:
    """One tab."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._write_fd, self._read_fd = write_fd, read_fd
        self._rest, self._number, self._session = b"", 0, ""
        self.errors: list[str] = []  # uncaught exceptions, refused resources, console.error
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> Any:
        """A command and its answer; events that come meanwhile are looked through for errors."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(
            self._write_fd,
            json.dumps({"id": self._number, "method": method, "params": params, **session}).encode() + b"\0",
        )
        while (message := self._next()).get("id") != self._number:
            self._note(message)
        assert "error" not in message, message
        return message["result"]

    def open(self, url: str, size: tuple[int, int] = (1024, 600), scheme: str = "light") -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=url)
        self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))

    def until(self, expression: str) -> Any:
        """Waits for a value that is true."""
        limit_s = time.monotonic() + WAIT_S
        while not (value := self.run(expression)):
            assert time.monotonic() < limit_s, f"{expression} never came; the page says {self.text('body')[:300]}"
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, path: Path, **how: object) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **how)["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._read_fd, 1 << 16)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")


def program() -> str:
    """Skips the test where there is no browser."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here: apt install chromium, or name one in CHROMIUM")
    return found


@contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """A fresh browser with its profile in `folder`."""
    commands, answers = os.pipe(), os.pipe()
    process = subprocess.Popen(
        [
            *(program(), "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--no-first-run"),
            *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-proxy-server"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=_as_fds_3_and_4(commands[0], answers[1]),
    )
    os.close(commands[0])
    os.close(answers[1])
    try:
        yield Page(commands[1], answers[0])
    finally:
        process.kill()
        process.wait()
        os.close(commands[1])
        os.close(answers[0])


def _as_fds_3_and_4(reading: int, writing: int) -> Callable[[], None]:
    def move() -> None:
        spare_reading, spare_writing = os.dup(reading), os.dup(writing)  # either may be 3 or 4 itself
        os.dup2(spare_reading, 3)
        os.dup2(spare_writing, 4)

    return move
