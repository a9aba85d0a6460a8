"""What TensorRT measured of its kernels on a GPU, kept in a file: the next build takes it instead of measuring again.

TensorRT-RTX measures nothing when it builds and has no use for it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_KIND = "lad-edge timings 1"


class Timings:
    """The measurements of one kind of TensorRT on one kind of GPU; `data` is TensorRT's own, empty before the first build.

    path: of the file, which need not exist; made_by: runtime, version and GPU, in words. A file that is damaged or made by others is left
    aside: `problem` says why, and `save` replaces it.
    """

    def __init__(self, path: Path, made_by: str) -> None:
        self.path, self.made_by, self.problem, self.data = path, made_by, "", b""
        self._stored = b""
        try:
            self._read(path.read_bytes())
        except FileNotFoundError:
            return
        except OSError as exc:
            self.leave_aside(f"it cannot be read ({exc})")

    def leave_aside(self, reason: str) -> None:
        """Go on as if there were none."""
        self.problem, self.data, self._stored = f"{self.path}: {reason}; TensorRT measures anew", b"", b""

    def save(self) -> None:
        """Write what was measured, whole or not at all; `problem` says why that is not possible."""
        if self.data == self._stored:
            return
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            part.write_bytes(_header(self.made_by, self.data) + b"\n" + self.data)
            part.replace(self.path)
        except OSError as exc:
            self.problem = f"{self.path}: it cannot be written ({exc}); the next build measures again"

    def _read(self, content: bytes) -> None:
        header, _, data = content.partition(b"\n")
        kind, _, made_by = header[: -len(_sha256(b""))].decode("utf-8", "replace").partition(": ")
        if kind != _KIND or header != _header(made_by, data):
            self.leave_aside("it is damaged, or no file of timings")
        elif made_by != self.made_by:
            self.leave_aside(f"it was made by {made_by}, here is {self.made_by}")
        else:
            self.data = self._stored = data


def _header(made_by: str, data: bytes) -> bytes:
    return f"{_KIND}: {made_by}{_sha256(data)}".encode()


def _sha256(data: bytes) -> str:
    return f"; sha256 {hashlib.sha256(data).hexdigest()}"
