"""A video file goes in; every frame comes out in order, those that the file only announces as FRAME_MISSING."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

from lad_edge.errors import SourceError
from lad_edge.sources.source import Recorded, fault_now, frame_now
from lad_edge.values import Frame, Reason

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # failures are reported by us, once, with a remedy

_MOST_MISSING = 1000  # records for one file that breaks off; the first one states the whole number


class VideoSource(Recorded):
    """Every frame of a video file in order. Frames that the file announces but does not hold are FRAME_MISSING."""

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
            detail = f"{self.name} breaks off in or after this frame"
            return fault_now(frame_id, Reason.FRAME_INCOMPLETE, detail, self.name)
        return frame_now(frame_id, image, source=self.name)

    def close(self) -> None:
        """Releases the file."""
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
        return fault_now(f"{self.name}#{self._read + self._missing}", Reason.FRAME_MISSING, detail, self.name)
