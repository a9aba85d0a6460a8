"""Drivers go in; the cameras that they can see from this machine come out, each with the URI that opens it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lad_edge.errors import LadEdgeError, SourceError
from lad_edge.sources.devices import v4l2_devices, v4l2_name
from lad_edge.sources.interpreters import environment, interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

_QUESTION = "import json; from lad_edge.sources.worker.genicam import cameras; print(json.dumps(cameras()))"
_ANSWER_S = 15.0


@dataclass(frozen=True)
class Found:
    """One camera. uri: what --camera takes; name: maker and model; where: device file, IP address or USB."""

    driver: str
    uri: str
    name: str
    where: str


def v4l2_cameras() -> list[Found]:
    """Video devices of the kernel; one camera may have several, of which the first carries the pictures."""
    return [Found("v4l2", f"v4l2://{device}", v4l2_name(device), device) for device in v4l2_devices()]


def genicam_cameras() -> list[Found]:
    """Cameras that answer on GigE Vision and USB3 Vision. Raises MissingDependencyError without Aravis, SourceError if it fails."""
    command = [interpreter("genicam"), "-c", _QUESTION]
    try:
        asked = subprocess.run(  # noqa: S603 - the command is ours
            command, env=environment(), cwd="/", capture_output=True, timeout=_ANSWER_S, check=True
        )
    except subprocess.SubprocessError as exc:
        raise SourceError(
            f"looking for GenICam cameras failed: {exc}; run 'arv-camera-test-0.8' of aravis-tools to see more"
        ) from exc
    return [
        Found("genicam", f"genicam://{camera['serial']}", f"{camera['vendor']} {camera['model']}", camera["address"])
        for camera in json.loads(asked.stdout)
    ]


FINDERS: dict[str, Callable[[], list[Found]]] = {"v4l2": v4l2_cameras, "genicam": genicam_cameras}


def survey() -> tuple[list[Found], dict[str, str]]:
    """All cameras, and for each driver that could not look the reason."""
    found: list[Found] = []
    silent: dict[str, str] = {}
    for driver in FINDERS:
        cameras, why = _ask(driver)
        found += cameras
        if why:
            silent[driver] = why
    return found, silent


def _ask(driver: str) -> tuple[list[Found], str]:
    try:
        return FINDERS[driver](), ""
    except LadEdgeError as exc:
        return [], str(exc)
