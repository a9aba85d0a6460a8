"""Space that is kept free for bad times: a file of zeros, given away when the disk is full (reliability.md F8)."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

_PAUSE_S = 0.5


class Reserve:
    """`size_bytes` beside the outbox; 0 = none. It never raises: a disk that is full at the start has no reserve."""

    def __init__(self, outbox: Path, size_bytes: int) -> None:
        self.path, self.size_bytes = Path(f"{outbox}.reserve"), size_bytes
        self.held = not size_bytes or self.path.exists()  # without a size there is nothing to miss
        self._again_s = 0.0
        self.fill()

    def fill(self) -> None:
        """Takes the space again, once the disk has twice as much; looks no more than twice a second."""
        if self.held or time.monotonic() < self._again_s:
            return
        self._again_s = time.monotonic() + _PAUSE_S
        with suppress(OSError):
            if shutil.disk_usage(self.path.parent).free >= 2 * self.size_bytes:
                self._allocate()

    def release(self) -> bool:
        """Gives the space away; False when there is none."""
        if not self.size_bytes or not self.held:
            return False
        self.held = False
        with suppress(OSError):
            self.path.unlink()
        return True

    def _allocate(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, self.size_bytes)
        except OSError:
            self.path.unlink()
            raise
        finally:
            os.close(descriptor)
        self.held = True
