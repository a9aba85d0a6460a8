"""The name of a file with a token or a password goes in; its text comes out, unless everybody on this machine can have it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from lad_edge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def read_secret(path: Path, whose: str) -> str:
    """Without white space around it. whose: the option that names the file, for the message. Raises UsageError."""
    try:
        with path.open(encoding="utf-8") as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{whose} {path} cannot be read: {exc}") from exc
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise UsageError(f"{whose} {path}: everybody on this machine can read or change it; chmod 600 {path}")
    return text
