"""Moving pictures through OpenCV: cameras and network streams (live), and video files (every frame, then the end)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's own lines would show URLs with their passwords
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")  # s without a picture; OpenCV's default is 10

from typing import TYPE_CHECKING

import cv2

from lad_edge.errors import SourceError
from lad_edge.values import Frame, Reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # failures are reported by us, once, with a remedy

_OPEN_TIMEOUT_MS = 5000
_READ_TIMEOUT_MS = 600  # OpenCV waits three times as long (reliability.md §2)
_STREAM_OPTIONS = [
    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS),
    *(cv2.CAP_PROP_N_THREADS, 1),  # each further decoding thread keeps one more frame back
]
_MOST_MISSING = 1000  # records for one file that breaks off; the first one states the whole number


def frame_now(frame_id: str, image: NDArray[np.generic] | None, pixel_format: str = "bgr8") -> Frame:
    """A frame captured at this moment; the mailbox numbers it."""
    return Frame(0, frame_id, image, pixel_format, time.monotonic_ns(), time.time_ns())


def fault_now(frame_id: str, fault: Reason, detail: str) -> Frame:
    """The statement, made at this moment, that there is no picture."""
    return Frame(0, frame_id, None, "none", time.monotonic_ns(), time.time_ns(), fault, detail)


def redacted(url: str) -> str:
    """The URL without user, password and query, fit for messages and records."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"***@{host}" if "@" in parts.netloc else host
    return urlunsplit((parts.scheme, netloc, parts.path, "***" if parts.query else "", ""))


class _Live:
    """What cameras and network streams share: a failed read is a CAMERA_LOST frame, and they can be opened again."""

    live = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._capture: cv2.VideoCapture | None = None
        self._count = 0

    def read(self) -> Frame | None:
        """The next picture with the time of its capture, or the statement that the source is lost."""
        self._count += 1
        frame_id, capture = f"{self.name}#{self._count}", self._capture
        if capture is None or not capture.grab():
            return fault_now(frame_id, Reason.CAMERA_LOST, f"{self.name} delivers no more frames")
        captured_ns, utc_ns = time.monotonic_ns(), time.time_ns()
        decoded, image = capture.retrieve()
        if not decoded or image is None:
            return fault_now(frame_id, Reason.FRAME_INCOMPLETE, f"{self.name} delivered a frame that cannot be decoded")
        return Frame(0, frame_id, image, "bgr8" if image.ndim == 3 else "mono8", captured_ns, utc_ns)

    def close(self) -> None:
        """Releases the device or file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


class CameraSource(_Live):
    """A camera of this machine by its index or device file; `size` (width, height) is requested when given."""

    def __init__(self, camera: int | str, size: tuple[int, int] | None = None) -> None:
        super().__init__(f"camera{camera}" if isinstance(camera, int) else str(camera))
        self.camera, self.size = camera, size

    def open(self) -> None:
        """Opens the device through V4L2. Raises SourceError that says why it may not open."""
        device = f"/dev/video{self.camera}" if isinstance(self.camera, int) else str(self.camera)
        capture = cv2.VideoCapture(self.camera, cv2.CAP_V4L2) if Path(device).exists() else None
        if capture is None or not capture.isOpened():
            raise SourceError(_camera_advice(device))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture; a deeper buffer inspects the past
        if self.size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.size[1])
        self._capture = capture


class UrlSource(_Live):
    """A network stream (RTSP, MJPEG over HTTP, ...); its credentials never reach a message or a record."""

    def __init__(self, url: str) -> None:
        super().__init__(redacted(url))
        self._url = url

    def open(self) -> None:
        """Connects. Raises SourceError."""
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, _STREAM_OPTIONS)
        if not capture.isOpened():
            raise SourceError(
                f"the stream {self.name} does not open (tried FFmpeg for {_OPEN_TIMEOUT_MS / 1000:g} s): "
                "check address, user and password, and that this machine reaches the host"
            )
        self._capture = capture


class VideoSource:
    """Every frame of a video file in order. Frames that the file announces but does not hold are FRAME_MISSING."""

    live = False

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self._capture: cv2.VideoCapture | None = None
        self._announced = self._read = self._missing = 0
        self._ahead: NDArray[np.uint8] | None = None

    def open(self) -> None:
        """Opens the file and decodes its first frame. Raises SourceError."""
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise SourceError(
                f"the video {self.path} does not open: it is damaged, cut off, or in a format that this OpenCV cannot "
                f"decode; test it with 'ffprobe {self.path.name}'"
            )
        self._capture = capture
        self._announced = round(max(0.0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._ahead = self._next()
        if self._ahead is None:
            raise SourceError(f"the video {self.path} holds no frame that can be decoded; record it again")

    def read(self) -> Frame | None:
        """One frame behind the decoder: the last one before a file breaks off is only half there, and must not pass."""
        image, self._ahead = self._ahead, self._next() if self._ahead is not None else None
        if image is None:
            return self._missing_frame()
        self._read += 1
        frame_id = f"{self.name}#{self._read}"
        if self._ahead is None and self._read < self._announced:
            return fault_now(frame_id, Reason.FRAME_INCOMPLETE, f"{self.name} breaks off in or after this frame")
        return frame_now(frame_id, image)

    def close(self) -> None:
        """Releases the device or file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _next(self) -> NDArray[np.uint8] | None:
        decoded, image = self._capture.read() if self._capture is not None else (False, None)
        return image if decoded else None

    def _missing_frame(self) -> Frame | None:
        shortfall = self._announced - self._read
        if self._missing >= min(shortfall, _MOST_MISSING):
            return None
        self._missing += 1
        detail = f"{self.name} announces {self._announced} frames, {self._read} can be read"
        return fault_now(f"{self.name}#{self._read + self._missing}", Reason.FRAME_MISSING, detail)


def _camera_advice(device: str) -> str:
    found = sorted(str(path) for path in Path("/dev").glob("video*"))
    if device not in found:
        seen = f"the machine has {', '.join(found)}" if found else "the machine has no /dev/video*"
        return f"the camera {device} does not open: {seen}; plug it in and look with 'ls /dev/video*'"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"the camera {device} does not open: no permission; run 'sudo usermod -aG video $USER' and log in again"
    return (
        f"the camera {device} does not open (tried V4L2): it may be in use (look with 'fuser -v {device}') or not a "
        "capture device (choose another one of 'ls /dev/video*')"
    )
