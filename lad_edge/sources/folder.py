"""A folder of image files goes in; they come out in the order of their names, damaged ones as frames with the fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lad_edge.errors import DataError, SourceError
from lad_edge.images import IMAGE_SUFFIXES, decode_image, read_bytes
from lad_edge.sources.source import Recorded, fault_now, frame_now
from lad_edge.values import Frame, Reason

if TYPE_CHECKING:
    from pathlib import Path


class FolderSource(Recorded):
    """Image files in the order of their names; one that cannot be read is a frame with the fault."""

    def __init__(self, folder: Path, paths: list[Path]) -> None:
        self.name, self._paths = folder.name, iter(paths)

    def read(self) -> Frame | None:
        """The next file; None after the last one."""
        path = next(self._paths, None)
        return None if path is None else frame_of_file(path, self.name)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder by name. Raises SourceError if there is none."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as exc:
        raise SourceError(f"the folder {folder} cannot be read: {exc.strerror}; check its permissions") from exc
    if not paths:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise SourceError(f"the folder {folder} holds no image ({kinds}); give the folder in which the images lie")
    return paths


def frame_of_file(path: Path, source: str) -> Frame:
    """The picture in the file, whole; FRAME_MISSING if it cannot be read, FRAME_INCOMPLETE if it is damaged."""
    try:
        data = read_bytes(path)
    except DataError as exc:
        return fault_now(path.name, Reason.FRAME_MISSING, str(exc), source)
    try:
        picture = decode_image(data, path.name)
    except DataError as exc:
        return fault_now(path.name, Reason.FRAME_INCOMPLETE, str(exc), source)
    return frame_now(path.name, picture.image, picture.pixel_format, source)
