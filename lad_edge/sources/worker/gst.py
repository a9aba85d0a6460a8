"""A GStreamer pipeline goes in, its raw video comes out: Jetson CSI cameras, and whatever else has a GStreamer element."""

from __future__ import annotations

import time
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")

from gi.repository import GLib, Gst, GstApp, GstVideo  # noqa: E402

from lad_edge.sources.worker.driver import DriverError, Room, Shot  # noqa: E402
from lad_edge.sources.worker.serving import now  # noqa: E402

_FORMATS = {"BGR": ("bgr8", 3), "RGB": ("rgb8", 3), "GRAY8": ("mono8", 1)}
# The sink keeps one picture: the line decides which frames are lost, and counts them, so nothing may wait before it.
_SINK = "videoconvert ! video/x-raw,format=(string){BGR,RGB,GRAY8} ! appsink name=frames max-buffers=4 drop=false sync=false"
_POLL_NS = 50_000_000


class PipelineDriver:
    """request: pipeline, without its sink; silence in s, after which a pipeline without pictures is lost."""

    name = "gst"

    def __init__(self, request: dict[str, Any]) -> None:
        self._text, self._silence_s = request["pipeline"], float(request["silence"])
        self._pipeline: Any = None
        self._last_stamp = -1

    def open(self) -> str:
        """Builds the pipeline and starts it. Raises DriverError with GStreamer's own words."""
        Gst.init(None)
        try:
            self._pipeline = Gst.parse_launch(f"{self._text} ! {_SINK}")
        except GLib.Error as exc:
            raise DriverError(
                f"gst:// is no pipeline: {exc.message}; try it with 'gst-launch-1.0 PIPELINE ! fakesink'"
            ) from exc
        self._sink: GstApp.AppSink = self._pipeline.get_by_name("frames")
        self._pipeline.set_state(Gst.State.PLAYING)
        if self._pipeline.get_state(5 * Gst.SECOND)[0] == Gst.StateChangeReturn.FAILURE:
            raise DriverError(f"the pipeline of gst:// does not start: {self._error()}")
        self._heard_s = time.monotonic()
        return "GStreamer pipeline"

    def read(self, room: Room) -> Shot | None:
        """The next picture. Raises DriverError at an error or the end of the pipeline, and after a silence."""
        sample = self._sink.try_pull_sample(_POLL_NS)
        moment = now()
        if sample is None:
            self._check()
            return None
        self._heard_s = time.monotonic()
        pixels = room()
        if pixels is None:
            return Shot(*moment)
        return self._shot(sample, pixels, moment)

    def trigger(self) -> None:
        """Raises DriverError: a pipeline runs freely."""
        raise DriverError("gst:// takes no software trigger")

    def close(self) -> None:
        """Stops the pipeline."""
        if self._pipeline is not None:
            self._pipeline.set_state(Gst.State.NULL)

    def _shot(self, sample: Any, pixels: memoryview, moment: tuple[int, int]) -> Shot:
        info, buffer = GstVideo.VideoInfo.new_from_caps(sample.get_caps()), sample.get_buffer()
        if buffer.has_flags(Gst.BufferFlags.CORRUPTED):
            return Shot(*moment, fault="FRAME_INCOMPLETE", detail="gst delivered a frame that is marked as corrupted")
        name, channels = _FORMATS[info.finfo.name]
        row, size = info.width * channels, info.width * channels * info.height
        mapped, memory = buffer.map(Gst.MapFlags.READ)
        if not mapped or size > len(pixels):
            return Shot(
                *moment, fault="FRAME_INCOMPLETE", detail=f"gst delivered {info.width}x{info.height} px out of reach"
            )
        try:
            _copy_rows(memory.data, pixels, row, info.stride[0], info.height)
        finally:
            buffer.unmap(memory)
        return Shot(*moment, info.width, info.height, size, name)

    def _check(self) -> None:
        if self._sink.is_eos():
            raise DriverError("the pipeline of gst:// has ended")
        error = self._error()
        if error:
            raise DriverError(f"the pipeline of gst:// failed: {error}")
        silent_s = time.monotonic() - self._heard_s
        if silent_s > self._silence_s:
            raise DriverError(f"gst has sent no picture for {silent_s:.1f} s")

    def _error(self) -> str:
        message = self._pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        return str(message.parse_error()[0].message) if message is not None else ""


def _copy_rows(source: memoryview, pixels: memoryview, row: int, stride: int, rows: int) -> None:
    """Rows of GStreamer begin at multiples of 4 bytes."""
    if stride == row:
        pixels[: row * rows] = source[: row * rows]
        return
    for index in range(rows):
        pixels[index * row : (index + 1) * row] = source[index * stride : index * stride + row]
