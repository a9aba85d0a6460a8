"""A camera, a video, a folder, an image or a URL goes in; frames come out, failures to get one included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import cv2

from lad_edge.errors import DataError, SourceError, UsageError
from lad_edge.images import IMAGE_SUFFIXES, decode_image, read_bytes
from lad_edge.stream.video import CameraSource, UrlSource, VideoSource, fault_now, frame_now
from lad_edge.values import Frame, Reason

_STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
_CONVERSIONS = {("bgr8", "mono8"): cv2.COLOR_BGR2GRAY, ("mono8", "bgr8"): cv2.COLOR_GRAY2BGR}


class Source(Protocol):
    """Where frames come from. All methods are called by the capture thread, and only by it.

    live: frames come at their own pace, and never end; otherwise the source may be held back and read to its end.
    """

    name: str
    live: bool

    def open(self) -> None:
        """Opens or opens again. Raises SourceError that says what was tried and what to do."""

    def read(self) -> Frame | None:
        """The next frame, waiting for it; a frame with a `fault` when there is no picture; None at the end."""

    def close(self) -> None:
        """Frees what `open` took; harmless when there is nothing to free."""


def open_camera(text: str, size: tuple[int, int] | None = None) -> Source:
    """`0`, `/dev/video0` → that camera (opened later, by the capture thread)."""
    if text.isdecimal():
        return CameraSource(int(text), size)
    if text.startswith("/dev/"):
        return CameraSource(text, size)
    raise UsageError(f"--camera takes an index such as 0 or a device such as /dev/video0; came '{text}'")


def open_source(text: str) -> Source:
    """A folder of images, an image, a video, or the URL of a stream, by what it is. Raises SourceError, UsageError."""
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in _STREAM_SCHEMES:
        return UrlSource(text)
    if scheme not in ("", "file"):
        known = ", ".join(f"{name}://" for name in sorted(_STREAM_SCHEMES))
        raise UsageError(f"--source takes a file, a folder or one of {known}; came {scheme}://")
    path = Path(unquote(urlsplit(text).path)) if scheme else Path(text)
    if path.is_dir():
        return FolderSource(path, _images_in(path))
    if not path.is_file():
        raise SourceError(f"the source {path} does not exist; give a video, an image, a folder of images or a URL")
    return FolderSource(path.parent, [path]) if path.suffix.lower() in IMAGE_SUFFIXES else VideoSource(path)


class FolderSource:
    """Image files in the order of their names; one that cannot be read is a frame with the fault."""

    live = False

    def __init__(self, folder: Path, paths: list[Path]) -> None:
        self.name, self._paths = folder.name, iter(paths)

    def open(self) -> None:
        """Nothing to open: each file is opened when its turn comes."""

    def read(self) -> Frame | None:
        """The next file; None after the last one."""
        path = next(self._paths, None)
        return None if path is None else _frame_from(path)

    def close(self) -> None:
        """Nothing stays open between two files."""


class Converted:
    """Another source with its pictures converted to one pixel format, because the user asked for it."""

    def __init__(self, source: Source, pixel_format: str) -> None:
        self.source, self.pixel_format = source, pixel_format
        self.name, self.live = source.name, source.live

    def open(self) -> None:
        """Opens the other source."""
        self.source.open()

    def read(self) -> Frame | None:
        """The other source's next frame, converted."""
        frame = self.source.read()
        if frame is None or frame.image is None:
            return frame
        code = _CONVERSIONS.get((frame.pixel_format, self.pixel_format))
        if code is None:  # equal already, or nothing that the gate should let pass
            return frame
        return replace(frame, image=cv2.cvtColor(frame.image, code), pixel_format=self.pixel_format)

    def close(self) -> None:
        """Closes the other source."""
        self.source.close()


def _images_in(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as exc:
        raise SourceError(f"the folder {folder} cannot be read: {exc.strerror}; check its permissions") from exc
    if not paths:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise SourceError(f"the folder {folder} holds no image ({kinds}); give the folder in which the images lie")
    return paths


def _frame_from(path: Path) -> Frame:
    try:
        data = read_bytes(path)
    except DataError as exc:
        return fault_now(path.name, Reason.FRAME_MISSING, str(exc))
    try:
        picture = decode_image(data, path.name)
    except DataError as exc:
        return fault_now(path.name, Reason.FRAME_INCOMPLETE, str(exc))
    return frame_now(path.name, picture.image, picture.pixel_format)
