"""The devices of this machine: which V4L2 cameras there are, and why one of them may not open."""

from __future__ import annotations

import os
from pathlib import Path

from lad_edge.errors import SourceError

_NODES, _CLASS, _PROCESSES = Path("/dev"), Path("/sys/class/video4linux"), Path("/proc")


def v4l2_devices() -> list[str]:
    """/dev/video0 and so on, by number; nodes of one camera that carry no pictures are among them."""
    return sorted((str(path) for path in _NODES.glob("video*")), key=lambda path: (len(path), path))


def v4l2_name(device: str) -> str:
    """What the driver calls the camera; empty if the kernel does not say."""
    return _text(_CLASS / Path(device).name / "name")


def holders(device: str) -> list[str]:
    """Programs that have the device open, as `name (pid)`, as far as this user may see them."""
    return [
        f"{_text(process / 'comm')} ({process.name})"
        for process in _PROCESSES.glob("[0-9]*")
        if any(_points_at(link, device) for link in _links(process / "fd"))
    ]


def check_v4l2(device: str) -> None:
    """Raises SourceError for a device that cannot be opened by this user, and says what to do."""
    found = v4l2_devices()
    if not Path(device).exists():
        seen = f"the machine has {', '.join(found)}" if found else "the machine has no /dev/video*"
        raise SourceError(f"the camera {device} does not open: {seen}; plug it in and look with 'ls /dev/video*'")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(
            f"the camera {device} does not open: no permission; run 'sudo usermod -aG video $USER' and log in again"
        )


def _text(file: Path) -> str:
    """The line in a file of the kernel; empty where there is none."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _links(folder: Path) -> list[Path]:
    """Open files of a process; none if it belongs to another user, or has ended."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _points_at(link: Path, device: str) -> bool:
    try:
        return str(link.readlink()) == device
    except OSError:
        return False
