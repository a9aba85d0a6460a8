"""A folder into which others write goes in; each file comes out once, as soon as it is whole, and never a half-written one."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.errors import SourceError, UsageError
from lad_edge.images import IMAGE_SUFFIXES
from lad_edge.sources.folder import frame_of_file
from lad_edge.sources.source import Waiting, fault_now
from lad_edge.values import Frame, Reason

if TYPE_CHECKING:
    from lad_edge.sources.uri import SourceUri

_SCAN_S = 0.02
_DEFAULT_SETTLE_S = 0.2

Version = tuple[
    int, int, int
]  # inode, size in bytes, time of the last change in ns: what tells two contents of one name apart


class HotFolder(Waiting):
    """`dir://FOLDER?ready=stable|sentinel|rename`: image files that appear, in the order in which they become whole.

    stable: size and time have not changed for `settle` (default 200ms). sentinel: a file of the same name with `sentinel` (default
    .done) behind it is there. rename: writers use another name first, such as .part-1.png or part-1.png.tmp, so a name means a whole file.
    existing=take|skip: what lies there at the start. A name that is written again is a new frame.
    """

    free_running = False

    def __init__(self, uri: SourceUri) -> None:
        super().__init__()
        if not uri.address:
            raise UsageError("dir:// needs a folder, such as dir:///mnt/in, or dir://in in the current one")
        self.folder = Path(uri.address)
        self.name = self.folder.name
        self.ready = uri.choice("ready", "stable", "sentinel", "rename")
        self._settle_s = uri.number("settle", _DEFAULT_SETTLE_S)
        self._sentinel = uri.options.get("sentinel", ".done")
        self._skips_existing = uri.choice("existing", "take", "skip") == "skip"
        self._delivered: dict[str, Version] = {}
        self._growing: dict[str, tuple[Version, float]] = {}
        self._whole: deque[str] = deque()
        if not self._sentinel:
            raise UsageError("dir:// option sentinel is what stands behind the name, such as .done; came nothing")

    def open(self) -> None:
        """Looks whether the folder is there. Raises SourceError."""
        versions = self._scan()
        if self._skips_existing:
            self._delivered, self._skips_existing = versions, False

    def read(self) -> Frame | None:
        """Waits for the next whole file; None when interrupted."""
        while not self._interrupted.is_set():
            try:
                self._look()
            except SourceError as exc:
                return fault_now(f"{self.name}#lost", Reason.CAMERA_LOST, str(exc), self.name)
            if self._whole:
                return frame_of_file(self.folder / self._whole.popleft(), self.name)
            self._interrupted.wait(_SCAN_S)
        return None

    def _look(self) -> None:
        versions = self._scan()
        self._delivered = {name: self._delivered[name] for name in self._delivered.keys() & versions.keys()}
        self._growing = {name: self._growing[name] for name in self._growing.keys() & versions.keys()}
        new = [name for name, version in versions.items() if self._delivered.get(name) != version]
        whole = [name for name in new if self._is_whole(name, versions[name])]
        for name in sorted(whole, key=lambda name: (versions[name][2], name)):
            self._delivered[name] = versions[name]
            self._growing.pop(name, None)
            self._whole.append(name)

    def _is_whole(self, name: str, version: Version) -> bool:
        if self.ready == "rename":
            return True
        if self.ready == "sentinel":
            return (self.folder / f"{name}{self._sentinel}").exists()
        before, since_s = self._growing.get(name, (None, 0.0))
        if before == version:
            return time.monotonic() - since_s >= self._settle_s
        self._growing[name] = (version, time.monotonic())
        return False

    def _scan(self) -> dict[str, Version]:
        """Names that can be images → versions. Raises SourceError."""
        try:
            with os.scandir(self.folder) as entries:
                return dict(found for entry in entries if (found := _seen(entry)) is not None)
        except OSError as exc:
            raise SourceError(
                f"the folder {self.folder} cannot be read: {exc.strerror}; make it, or mount it again"
            ) from exc


def _seen(entry: os.DirEntry[str]) -> tuple[str, Version] | None:
    """Names that begin with a dot belong to a writer who has not finished."""
    if entry.name.startswith(".") or os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:  # noqa: PTH122 - 50 scans a second
        return None
    try:
        state = entry.stat()
    except OSError:  # gone between the scan and this line
        return None
    return entry.name, (state.st_ino, state.st_size, state.st_mtime_ns)
