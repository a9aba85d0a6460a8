"""Sources on real files: order, formats, damage; nothing that is not a whole picture passes as one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

from lad_edge.errors import MissingDependencyError, SourceError, UsageError
from lad_edge.sources import interpreters
from lad_edge.sources.child import DriverSource
from lad_edge.sources.converted import Converted
from lad_edge.sources.devices import holders
from lad_edge.sources.hot_folder import HotFolder
from lad_edge.sources.opening import open_source
from lad_edge.sources.pattern import Pattern
from lad_edge.sources.source import Source
from lad_edge.sources.uri import parse, redacted
from lad_edge.sources.worker.opencv import V4l2Driver
from lad_edge.values import Frame, Reason

FRAMES = 20


def write_video(path: Path, frames: int = FRAMES) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (tiny.WIDTH, tiny.HEIGHT))
    assert writer.isOpened()
    for i in range(frames):
        noise = np.random.default_rng(i).integers(-9, 10, (tiny.HEIGHT, tiny.WIDTH, 3))
        writer.write((20 + 10 * i + noise).astype(np.uint8))  # the mean tells which frame it is
    writer.release()
    return path


def everything(source: Source) -> list[Frame]:
    source.open()
    frames = list(_frames(source))
    source.close()
    return frames


def _frames(source: Source) -> Iterator[Frame]:
    while (frame := source.read()) is not None:
        yield frame


def _number(frame: Frame) -> int:
    return round((float(np.mean(frame.image)) - 20) / 10)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "c.jpg", "note.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("not an image")
        else:
            cv2.imwrite(str(tmp_path / name), tiny.good_picture(1))
    source = open_source(str(tmp_path))
    assert not source.live
    assert [frame.frame_id for frame in everything(source)] == ["a.png", "b.png", "c.jpg"]


def test_one_image_is_a_source(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), tiny.good_picture(1))
    (frame,) = everything(open_source(str(tmp_path / "one.png")))
    np.testing.assert_array_equal(frame.image, tiny.good_picture(1))
    assert frame.pixel_format == "bgr8"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_image_is_incomplete_at_every_length(tmp_path: Path, suffix: str) -> None:
    whole = cv2.imencode(suffix, tiny.good_picture(1))[1].tobytes()
    for i, length in enumerate(np.linspace(0, len(whole) - 1, 25).astype(int)):
        (tmp_path / f"{i:02}{suffix}").write_bytes(whole[:length])
    frames = everything(open_source(str(tmp_path)))
    assert len(frames) == 25
    assert {(frame.fault, frame.image is None) for frame in frames} == {(Reason.FRAME_INCOMPLETE, True)}


def test_an_image_that_vanished_is_missing(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), tiny.good_picture(1))
    source = open_source(str(tmp_path))
    (tmp_path / "a.png").unlink()
    assert [frame.fault for frame in everything(source)] == [Reason.FRAME_MISSING]


@pytest.mark.parametrize(
    ("image", "pixel_format"),
    [
        (np.zeros((8, 8), np.uint8), "mono8"),
        (np.zeros((8, 8), np.uint16), "mono16"),
        (np.zeros((8, 8, 4), np.uint8), "bgra8"),
    ],
)
def test_other_pixels_keep_their_name_for_the_gate_to_refuse(
    tmp_path: Path, image: np.ndarray, pixel_format: str
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert [frame.pixel_format for frame in everything(open_source(str(tmp_path)))] == [pixel_format]


def test_a_video_gives_every_frame_in_order(tmp_path: Path) -> None:
    frames = everything(open_source(str(write_video(tmp_path / "v.avi"))))
    assert [frame.frame_id for frame in frames] == [f"v.avi#{i + 1}" for i in range(FRAMES)]
    assert [_number(frame) for frame in frames] == list(range(FRAMES))


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_video_that_breaks_off_accounts_for_every_announced_frame(tmp_path: Path, share: float) -> None:
    whole = write_video(tmp_path / "v.avi").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: int(share * len(whole))])
    frames = everything(open_source(str(cut)))
    faults = [frame.fault for frame in frames]
    good = faults.index(Reason.FRAME_INCOMPLETE)
    assert len(frames) == FRAMES
    assert faults[:good] == [None] * good
    assert faults[good + 1 :] == [Reason.FRAME_MISSING] * (FRAMES - good - 1)
    assert [_number(frame) for frame in frames[:good]] == list(range(good))


def test_a_file_that_is_no_video_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(SourceError, match=r"does not open: .*ffprobe"):
        everything(open_source(str(tmp_path / "v.mp4")))


@pytest.mark.parametrize("text", ["nowhere", "nowhere/at/all.mp4"])
def test_a_missing_source_is_an_error(text: str) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_source(text)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no image"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("text", ["ftp://a/b", "gopher://x", "concat://a|b"])
def test_a_scheme_outside_the_list_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="rtsp://"):
        open_source(text)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("rstp://a/b", "did you mean rtsp://"),
        ("genican://1", "did you mean genicam://"),
        ("pattern://64x64?fsp=3", "did you mean 'fps'"),
        ("pattern://64x64?format=bgr", "did you mean 'bgr8'"),
        ("dir://x?ready=stabel", "did you mean 'stable'"),
        ("genicam://1?trigger=lines", "did you mean 'line'"),
        ("pattern://64", "WIDTHxHEIGHT"),
        ("pattern://64x64?fps=fast", "number of at least 0"),
        ("gst://", "needs a pipeline"),
        ("v4l2://0?silence=0s", "above 0 for silence"),
        ("genicam://1?exposure=2m", "a time such as 5ms for exposure; came '2m'"),
        ("genicam://1?exposure=auto", "a time such as 5ms for exposure; came 'auto'"),
        ("dir://x?settle=-1s", "a time such as 5ms for settle; came '-1s'"),
        ("v4l2://0?fps=fast", "number of at least 0 for fps"),
        ("v4l2://0?format=MJPEG", "four letters for format, such as MJPG or YUYV; came 'MJPEG'"),
        ("v4l2://", "needs a device"),
        ("dir://", "needs a folder"),
        ("genicam:SN-1", "did you mean genicam://SN-1"),
        ("rtsp:/user:secret@h/s", r"did you mean rtsp://\*\*\*@h/s"),
        ("genicam://SN-1#exposure=2ms", r"options behind '\?'"),
        ("v4l2://0#fps=30", r"options behind '\?'"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(text: str, near: str) -> None:
    with pytest.raises(UsageError, match=near):
        open_source(text)


@pytest.mark.parametrize(
    ("text", "kind", "name", "free_running"),
    [
        ("0", DriverSource, "camera0", True),
        ("/dev/video2", DriverSource, "camera2", True),
        ("v4l2:///dev/video0?size=640x480&fps=30&format=MJPG", DriverSource, "camera0", True),
        ("v4l2:///dev/v4l/by-id/usb-cam", DriverSource, "/dev/v4l/by-id/usb-cam", True),
        ("rtsp://u:p@h/s#transport=udp", DriverSource, "rtsp://***@h/s", True),
        ("https://h/s?key=k", DriverSource, "https://h/s?***", True),
        ("genicam://SN-1?exposure=5000&gain=3", DriverSource, "genicam:SN-1", True),
        ("genicam://SN-1?trigger=line", DriverSource, "genicam:SN-1", False),
        ("gst://videotestsrc ! videoconvert", DriverSource, "gst", True),
        ("dir:///tmp?ready=rename", HotFolder, "tmp", False),
        ("pattern://64x48?fps=5", Pattern, "pattern", True),
    ],
)
def test_one_uri_is_one_live_source(text: str, kind: type, name: str, free_running: bool) -> None:
    source = open_source(text)
    assert isinstance(source, kind)
    assert (source.name, source.live, source.free_running) == (name, True, free_running)


def test_what_a_uri_says_is_read_as_it_is_written() -> None:
    uri = parse("genicam://Aravis-GVC%2001?exposure=5000&size=640x480")
    assert (uri.address, uri.number("exposure", 0), uri.pair("size")) == ("Aravis-GVC 01", 5000, (640, 480))
    assert parse("gst://filesrc location=/a?b#c ! decodebin").address == "filesrc location=/a?b#c ! decodebin"
    assert parse("rtsp://h/s?channel=1#silence=5").address == "rtsp://h/s?channel=1"


@pytest.mark.parametrize(
    ("text", "option", "value"),
    [
        ("genicam://1?exposure=2ms", "exposure", 2000.0),
        ("genicam://1?exposure=2.5ms", "exposure", 2500.0),
        ("genicam://1?exposure=800us", "exposure", 800.0),
        ("genicam://1?exposure=800µs", "exposure", 800.0),
        ("genicam://1?exposure=800", "exposure", 800.0),
        ("genicam://1?trigger=line&delay=1ms", "delay", 1000.0),
        ("genicam://1?silence=1500ms", "silence", 1.5),
        ("rtsp://h/s#silence=2s", "silence", 2.0),
        ("http://h/s#silence=0.5", "silence", 0.5),
        ("dir://in?settle=200ms", "settle", 0.2),
    ],
)
def test_a_time_is_read_with_its_unit(text: str, option: str, value: float) -> None:
    assert parse(text).number(option, 0) == pytest.approx(value)


def test_a_v4l2_camera_is_waited_for_as_long_as_its_address_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "10")
    source = open_source("v4l2://0?silence=2500ms")
    assert isinstance(source, DriverSource)
    V4l2Driver(dict(source.process.request))
    assert os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] == "3"  # OpenCV takes whole seconds
    assert source.limits.silence_s > 3


def test_a_folder_may_have_any_character_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "shift #1"
    folder.mkdir()
    open_source(f"dir://{folder}?ready=rename").open()


def test_a_file_url_is_a_file(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a b.png"), tiny.good_picture(1))
    assert len(everything(open_source((tmp_path / "a b.png").as_uri()))) == 1


def test_a_camera_that_is_not_there_names_what_is_there() -> None:
    with pytest.raises(SourceError, match=r"/dev/video4711 does not open: .*ls /dev/video\*"):
        open_source("4711").open()


def test_the_frames_of_a_camera_that_has_gone_say_so() -> None:
    frame = open_source("4711").read()
    assert frame is not None
    assert (frame.fault, frame.source) == (Reason.CAMERA_LOST, "camera4711")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:secret@10.0.0.7:554/s1", "rtsp://***@10.0.0.7:554/s1"),
        ("http://10.0.0.7/s?token=secret", "http://10.0.0.7/s?***"),
        ("rtsp://u:s@ecret@host/x", "rtsp://***@host/x"),
        ("rtsp://host/x#secret", "rtsp://host/x"),
        ("RTSP://u:secret@host/x", "rtsp://***@host/x"),
        ("genicam://SN-1?exposure=5000", "genicam://SN-1?exposure=5000"),
        ("gst://rtspsrc location=rtsp://u:secret@h/s ! decodebin", "gst://rtspsrc location=rtsp://***@h/s ! decodebin"),
        (
            "gst://rtspsrc location=rtsp://h/s user-id=u user-pw=secret",
            "gst://rtspsrc location=rtsp://h/s user-id=*** user-pw=***",
        ),
        ("/data/shift1.mp4", "/data/shift1.mp4"),
    ],
)
def test_credentials_are_never_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_stream_that_does_not_open_keeps_its_password(scheme: str, capfd: pytest.CaptureFixture[str]) -> None:
    source = open_source(f"{scheme}://user:secret@127.0.0.1:9/stream?key=secret")
    with pytest.raises(SourceError, match="does not open") as caught:
        source.open()
    assert isinstance(source, DriverSource)
    words = Path(f"/proc/{source.process.pid}/cmdline").read_text()
    source.close()
    output = capfd.readouterr()
    assert "secret" not in str(caught.value) + source.name + output.out + output.err + words


def test_colour_is_converted_only_when_asked(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), tiny.good_picture(1))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((8, 8), np.uint16))
    (tmp_path / "c.png").write_bytes(b"")
    frames = everything(Converted(open_source(str(tmp_path)), "mono8"))
    assert [frame.pixel_format for frame in frames] == ["mono8", "mono16", "none"]
    np.testing.assert_array_equal(frames[0].image, cv2.cvtColor(tiny.good_picture(1), cv2.COLOR_BGR2GRAY))


def test_a_device_that_is_no_camera_is_an_error() -> None:
    source = open_source("/dev/null")
    with pytest.raises(SourceError, match=r"not a capture device|in use by"):
        source.open()
    source.close()


def test_programs_that_hold_a_device_are_named(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    with device.open("w"):
        assert any(f"({os.getpid()})" in holder for holder in holders(str(device)))
    assert holders(str(device)) == []


def test_a_driver_that_is_not_installed_comes_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interpreters, "_BINDINGS", {"genicam": ("NoSuchNamespace", "1.0")})
    interpreters._has_bindings.cache_clear()
    source = open_source("genicam://SN-1")
    with pytest.raises(MissingDependencyError, match="sudo apt install python3-gi gir1"):
        source.open()
    source.close()
    interpreters._has_bindings.cache_clear()
