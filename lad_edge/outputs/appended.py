"""A file that grows by whole lines only: what a crash left half written is cut, and a full disk leaves no half line."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from lad_edge.outputs.delivery import DeliveryError
from lad_edge.stream.writing import write_all

if TYPE_CHECKING:
    from pathlib import Path

_TAIL_BYTES = 1 << 20  # no record is longer


class AppendedFile:
    """Locked while it is open; `last_line` is the last whole line that it held when it was opened, "" for none."""

    def __init__(self, path: Path, signature: bytes, header: bytes = b"") -> None:
        """signature: how every file of this kind begins; header: the first line of a new one. Raises DeliveryError."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise DeliveryError(f"{path} does not open: {exc.strerror}") from exc
        try:
            self.last_line = self._take_over(signature, header)
        except OSError as exc:
            os.close(self._fd)
            raise DeliveryError(f"{path} cannot be appended to: {exc.strerror}") from exc
        except DeliveryError:
            os.close(self._fd)
            raise

    def append(self, lines: bytes) -> None:
        """All of it is on the disk afterwards, or none. Raises DeliveryError."""
        end = os.fstat(self._fd).st_size
        try:
            write_all(self._fd, lines)
            os.fdatasync(self._fd)
        except OSError as exc:
            os.ftruncate(self._fd, end)
            raise DeliveryError(f"{self.path}: {exc.strerror}; free space or check the disk") from exc

    def close(self) -> None:
        """Closes the file; all of it is on the disk already."""
        os.close(self._fd)

    def _take_over(self, signature: bytes, header: bytes) -> str:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DeliveryError(f"{self.path} is written by another process") from exc
        if not signature.startswith(os.pread(self._fd, len(signature), 0)):
            raise DeliveryError(f"{self.path} exists and is no result file of lad-edge; choose another file")
        size = os.fstat(self._fd).st_size
        start = max(0, size - _TAIL_BYTES)
        whole, newline, _ = os.pread(self._fd, size - start, start).rpartition(b"\n")
        os.ftruncate(self._fd, start + len(whole) + len(newline))
        if header and not os.fstat(self._fd).st_size:
            self.append(header)
        return whole.rpartition(b"\n")[2].decode("utf-8", "replace")
