"""V4L2 cameras and RTSP streams through OpenCV, which blocks in its drivers and times out when it pleases (reliability.md §2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read by OpenCV when it is imported. FFmpeg's own lines would show URLs with their passwords.
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"

import cv2
import numpy as np

from lad_edge.sources.devices import holders
from lad_edge.sources.uri import redacted
from lad_edge.sources.worker.driver import DriverError, Room, Shot
from lad_edge.sources.worker.serving import now
from lad_edge.sources.worker.stream_clock import StreamClock

if TYPE_CHECKING:
    from numpy.typing import NDArray

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # failures are reported by us, once, with a remedy
cv2.setNumThreads(1)

_OPEN_TIMEOUT_MS = 5000
_PROTOCOLS = "rtsp,rtsps,rtp,srtp,tcp,udp,tls,crypto"  # what a stream may refer to: no file, no other address


class _OpenCvDriver:
    """What V4L2 and FFmpeg share: grab, then decode straight into the shared memory."""

    name: str

    def __init__(self) -> None:
        self._capture: cv2.VideoCapture | None = None
        self._shape: tuple[int, ...] = (0, 0, 3)

    def read(self, room: Room) -> Shot | None:
        """The next picture. Raises DriverError when OpenCV says that there is none."""
        capture = self._capture
        if capture is None or not capture.grab():
            raise DriverError(f"{self.name} delivers no more frames")
        captured_ns, utc_ns = self._moment(capture)
        pixels = room()
        if pixels is None:
            return Shot(captured_ns, utc_ns)
        view = self._view(pixels)
        decoded, image = capture.retrieve(view)
        if not decoded or image is None:
            detail = f"{self.name} delivered a frame that cannot be decoded"
            return Shot(captured_ns, utc_ns, fault="FRAME_INCOMPLETE", detail=detail)
        if not np.shares_memory(image, view):  # the first picture, and the first of another size
            self._shape = image.shape
            np.copyto(self._view(pixels), image)
        height, width = image.shape[:2]
        format_ = "bgr8" if image.ndim == 3 else "mono8"
        return Shot(captured_ns, utc_ns, width, height, image.size, format_)

    def trigger(self) -> None:
        """Raises DriverError: such a camera runs freely."""
        raise DriverError(f"{self.name} takes no software trigger")

    def close(self) -> None:
        """Releases the device or the connection."""
        if self._capture is not None:
            self._capture.release()

    def _moment(self, _capture: cv2.VideoCapture) -> tuple[int, int]:
        """When the picture that was grabbed last was captured."""
        return now()

    def _view(self, pixels: memoryview) -> NDArray[np.uint8]:
        size = int(np.prod(self._shape))
        if size > len(pixels):
            raise DriverError(f"{self.name} delivers {self._shape} px, more than fits; choose a smaller size")
        return np.frombuffer(pixels, np.uint8, size).reshape(self._shape)


class V4l2Driver(_OpenCvDriver):
    """A camera of this machine by its device file; request: address, size, silence in whole s, options fps and format (FOURCC)."""

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__()
        self.name, self._size, self._options = request["address"], request["size"], request["options"]
        # Without a picture for that long, `grab` fails; OpenCV reads it at its first wait, and would wait for 10 s.
        os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(request["silence"])

    def open(self) -> str:
        """Opens the device. Raises DriverError."""
        capture = cv2.VideoCapture(self.name, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise self._refused()
        self._capture = capture
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture; a deeper buffer inspects the past
        if "format" in self._options:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*f"{self._options['format']:4.4}"))
        for prop, value in zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT), self._size, strict=False):
            capture.set(prop, value)
        if "fps" in self._options:
            capture.set(cv2.CAP_PROP_FPS, float(self._options["fps"]))
        return f"{self.name}, V4L2"

    def _refused(self) -> DriverError:
        others = holders(str(Path(self.name).resolve()))
        if others:
            return DriverError(
                f"the camera {self.name} is in use by {', '.join(others)}; end that program", "CAMERA_BUSY"
            )
        return DriverError(
            f"the camera {self.name} does not open (tried V4L2): it is not a capture device, or another user has it; choose "
            "another one of 'lad-edge camera list', or look with 'sudo fuser -v'"
        )


class StreamDriver(_OpenCvDriver):
    """An RTSP stream through FFmpeg; request: url, transport (tcp, udp), silence in s, ca (a file, or empty). Its credentials stay here."""

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__()
        self._url, self.name, self._clock = request["url"], redacted(request["url"]), StreamClock()
        self._read_timeout_ms = max(100, int(request["silence"] * 1000 / 4))  # OpenCV waits three times as long
        # By itself FFmpeg 8 tells the password to a server with any certificate.
        trust = f"|tls_verify;1|ca_file;{request['ca']}" if self._url.lower().startswith("rtsps:") else ""
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = (
            f"rtsp_transport;{request['transport']}|protocol_whitelist;{_PROTOCOLS}|fflags;discardcorrupt|analyzeduration;300000"
            f"{trust}"
        )

    def open(self) -> str:
        """Connects. Raises DriverError."""
        settings = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, self._read_timeout_ms),
            *(cv2.CAP_PROP_N_THREADS, 1),  # each further decoding thread keeps one more frame back
        ]
        self._capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, settings)
        if not self._capture.isOpened():
            raise DriverError(
                f"the stream {self.name} does not open: check address, user and password, that this machine reaches the host, and "
                "for rtsps:// who signed its certificate (#ca=FILE)"
            )
        return f"{self.name}, FFmpeg"

    def _moment(self, capture: cv2.VideoCapture) -> tuple[int, int]:
        captured_ns, utc_ns = now()
        age_ns = self._clock.age_ns(round(1e6 * capture.get(cv2.CAP_PROP_POS_MSEC)), captured_ns)
        return captured_ns - age_ns, utc_ns - age_ns
