"""Bytes go in and are written whole, or an OSError says why not."""

from __future__ import annotations

import os


def write_all(fd: int, data: bytes | memoryview) -> None:
    """os.write until all is written: on a full disk the first call may take a part without any error."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
