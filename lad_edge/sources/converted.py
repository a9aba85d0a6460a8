"""A source of one pixel format goes in; the same source in another one comes out, because the user asked for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lad_edge.sources.source import Source
    from lad_edge.values import Frame

# OpenCV names a Bayer pattern by its second row and second column, GenICam by its first two pixels.
_CONVERSIONS = {
    ("bgr8", "mono8"): cv2.COLOR_BGR2GRAY,
    ("rgb8", "mono8"): cv2.COLOR_RGB2GRAY,
    ("mono8", "bgr8"): cv2.COLOR_GRAY2BGR,
    ("rgb8", "bgr8"): cv2.COLOR_RGB2BGR,
    ("bayer_rg8", "bgr8"): cv2.COLOR_BayerBG2BGR,
    ("bayer_bg8", "bgr8"): cv2.COLOR_BayerRG2BGR,
    ("bayer_gr8", "bgr8"): cv2.COLOR_BayerGB2BGR,
    ("bayer_gb8", "bgr8"): cv2.COLOR_BayerGR2BGR,
}


class Converted:
    """Another source with its pictures converted to one pixel format; what has no conversion is left for the gate to refuse."""

    def __init__(self, source: Source, pixel_format: str) -> None:
        self.source, self.pixel_format = source, pixel_format
        self.name, self.live, self.free_running = source.name, source.live, source.free_running
        self.counts: Mapping[str, int] = getattr(source, "counts", {})

    def open(self) -> None:
        """Opens the other source."""
        self.source.open()

    def read(self) -> Frame | None:
        """The other source's next frame, converted."""
        frame = self.source.read()
        if frame is None or frame.image is None:
            return frame
        code = _CONVERSIONS.get((frame.pixel_format, self.pixel_format))
        if code is None or frame.image.ndim < 2:  # equal already, or nothing that the gate should let pass
            return frame
        return replace(frame, image=cv2.cvtColor(frame.image, code), pixel_format=self.pixel_format)

    def close(self) -> None:
        """Closes the other source."""
        self.source.close()

    def trigger(self) -> None:
        """Triggers the other source."""
        self.source.trigger()

    def interrupt(self) -> None:
        """Interrupts the other source."""
        self.source.interrupt()
