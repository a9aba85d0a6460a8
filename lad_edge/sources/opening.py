"""One URI goes in, the source behind it comes out: the only table of which scheme is which class."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.errors import SourceError, UsageError
from lad_edge.images import IMAGE_SUFFIXES
from lad_edge.sources.child import DriverSource, Limits
from lad_edge.sources.devices import check_v4l2
from lad_edge.sources.folder import FolderSource, images_in
from lad_edge.sources.hot_folder import HotFolder
from lad_edge.sources.pattern import Pattern
from lad_edge.sources.uri import NETWORK, SourceUri, parse, redacted
from lad_edge.sources.video import VideoSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.sources.source import Source

Size = tuple[int, int]  # width, height
ACTIVATIONS = ("RisingEdge", "FallingEdge", "AnyEdge", "LevelHigh", "LevelLow")  # GenICam SFNC, TriggerActivation

# How long a driver may stay silent. A failed read of an RTSP stream ends by itself earlier: OpenCV's limit is set to a quarter.
_V4L2_SILENCE_S, _STREAM_SILENCE_S, _GENICAM_SILENCE_S = 2.0, 2.0, 1.0
_V4L2_SLACK_S = 1.0  # for OpenCV to say that nothing came, before its process is killed
_GENICAM_FAREWELL_S = (
    4.0  # Aravis repeats a command to a camera that is silent for 2.5 s, and another one may wait before
)


def open_source(text: str, size: Size | None = None) -> Source:
    """`0`, a path or a URI → its source, which is opened later. size: asked of cameras that can choose, None = theirs.

    Raises UsageError for words that mean no source, SourceError for a file or folder that is not there.
    """
    uri = parse(text)
    return _CLASSES[uri.scheme](uri, size)


def _file(uri: SourceUri, _: Size | None) -> Source:
    path = Path(uri.address)
    if path.is_dir():
        return FolderSource(path, images_in(path))
    if not path.is_file():
        raise SourceError(f"the source {path} does not exist; give a video, an image, a folder of images or a URI")
    return FolderSource(path.parent, [path]) if path.suffix.lower() in IMAGE_SUFFIXES else VideoSource(path)


def _hot_folder(uri: SourceUri, _: Size | None) -> Source:
    return HotFolder(uri)


def _pattern(uri: SourceUri, _: Size | None) -> Source:
    return Pattern(uri)


def _v4l2(uri: SourceUri, size: Size | None) -> Source:
    device = uri.address
    number = device.removeprefix("/dev/video")
    uri.number("fps", 0)
    if len(uri.options.get("format", "MJPG")) != 4:
        raise UsageError(f"v4l2:// takes four letters for format, such as MJPG or YUYV; came '{uri.options['format']}'")
    silence_s = math.ceil(_silence_s(uri, _V4L2_SILENCE_S))  # OpenCV counts whole seconds, and says so by itself
    request = _request(uri, uri.pair("size") or size) | {"silence": silence_s}
    return DriverSource(
        f"camera{number}" if number.isdecimal() else device,
        "v4l2",
        request,
        Limits(silence_s=silence_s + _V4L2_SLACK_S),
        check=lambda: check_v4l2(device),
    )


def _stream(uri: SourceUri, _: Size | None) -> Source:
    silence_s = _silence_s(uri, _STREAM_SILENCE_S)
    transport = uri.choice("transport", "tcp", "udp")
    request = {"url": uri.address, "transport": transport, "silence": silence_s, "ca": _file_of(uri, "ca")}
    driver = "mjpeg" if uri.scheme in ("http", "https") else "rtsp"
    return DriverSource(redacted(uri.address), driver, request, Limits(silence_s=silence_s))


def _genicam(uri: SourceUri, size: Size | None) -> Source:
    trigger = uri.choice("trigger", "off", "software", "line")
    for option in ("exposure", "gain", "fps", "packet", "delay"):
        uri.number(option, 0)
    uri.choice("activation", *ACTIVATIONS)
    of_line = [option for option in ("line", "activation", "delay") if option in uri.options]
    if of_line and trigger != "line":
        raise UsageError(f"genicam:// option {of_line[0]} is for trigger=line; came trigger={trigger}")
    uri.pair("offset")
    request = _request(uri, uri.pair("size") or size)
    limits = Limits(silence_s=_silence_s(uri, _GENICAM_SILENCE_S), open_s=10.0, farewell_s=_GENICAM_FAREWELL_S)
    name, free_running, on_demand = f"genicam:{uri.address or 'any'}", trigger == "off", trigger == "software"
    return DriverSource(name, "genicam", request, limits, free_running=free_running, on_demand=on_demand)


def _gst(uri: SourceUri, _: Size | None) -> Source:
    if not uri.address.strip():
        raise UsageError(
            "gst:// needs a pipeline, such as gst://nvarguscamerasrc ! nvvidconv ! video/x-raw,format=BGRx"
        )
    request = {"pipeline": uri.address, "silence": _STREAM_SILENCE_S}
    return DriverSource("gst", "gst", request, Limits(silence_s=_STREAM_SILENCE_S, open_s=10.0))


def _request(uri: SourceUri, size: Size | None) -> dict[str, object]:
    return {"address": uri.address, "size": list(size or ()), "options": dict(uri.options)}


def _file_of(uri: SourceUri, option: str) -> str:
    """Its path from the root, as a driver has another working directory; empty if it is not given. Raises UsageError."""
    text = uri.options.get(option)
    if text is None:
        return ""
    if not Path(text).is_file():
        raise UsageError(f"{uri.scheme}:// takes a file for {option}; there is no {text}")
    return str(Path(text).resolve())


def _silence_s(uri: SourceUri, default: float) -> float:
    """`#silence=5s` or `?silence=5s`. Raises UsageError."""
    seconds = uri.number("silence", default)
    if not seconds:
        raise UsageError(f"{uri.scheme}:// takes a time above 0 for silence, such as 2s; came 0")
    return seconds


_CLASSES: dict[str, Callable[[SourceUri, Size | None], Source]] = {
    "file": _file,
    "dir": _hot_folder,
    "v4l2": _v4l2,
    **dict.fromkeys(sorted(NETWORK), _stream),
    "genicam": _genicam,
    "gst": _gst,
    "pattern": _pattern,
}
