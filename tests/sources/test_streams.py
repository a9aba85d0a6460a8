"""RTSP, motion JPEG and GStreamer pipelines, with real servers: whole pictures, no secrets, and back after anything."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import trustme
from mjpeg_server import serving
from rtsp_server import RtspServer, rtsp_server
from watching import watching

from lad_edge.errors import MissingDependencyError, SourceError, UsageError
from lad_edge.sources.interpreters import interpreter
from lad_edge.sources.opening import open_source
from lad_edge.values import Reason


def _pulled(server: RtspServer) -> None:
    server.pull_out()


def _frozen(server: RtspServer) -> None:
    server.freeze()


def _plugged_in(server: RtspServer) -> None:
    server.plug_in()


def _thawed(server: RtspServer) -> None:
    server.thaw()


@pytest.mark.parametrize(("away", "back"), [(_pulled, _plugged_in), (_frozen, _thawed)], ids=["killed", "stalled"])
def test_an_rtsp_camera_that_went_away_is_lost_and_comes_back(away: object, back: object) -> None:
    with rtsp_server() as server, watching(server.url) as watched:
        frame = watched.good()
        assert (frame.pixel_format, np.shape(frame.image)) == ("bgr8", (240, 320, 3))
        assert "secret" not in frame.frame_id + frame.source
        away(server)  # type: ignore[operator]
        assert "secret" not in watched.lost().fault_detail
        back(server)  # type: ignore[operator]
        watched.good()
        assert "secret" not in " ".join(watched.notices)


def test_the_picture_that_the_decoder_held_back_when_an_rtsp_camera_froze_is_not_taken_for_a_new_one() -> None:
    with rtsp_server() as server, watching(server.url) as watched:
        for _ in range(10):
            watched.good()
        server.freeze()
        frozen_ns, pictures = time.monotonic_ns(), []
        while (frame := watched.next(lambda _: True)).fault is None:
            pictures.append(frame)
        assert max((frame.captured_ns - frozen_ns) / 1e9 for frame in pictures) < 0.2  # the last one arrives at 0.5 s


def test_motion_jpeg_comes_whole_and_in_order() -> None:
    with serving(frames=5, pause_s=0.01) as server, watching(server.url) as watched:
        for number in range(5):
            packed = cv2.imencode(".jpg", tiny.good_picture(number))[1]
            np.testing.assert_array_equal(watched.good().image, cv2.imdecode(packed, cv2.IMREAD_COLOR))
        server.release.set()
        assert "hung up" in watched.lost().fault_detail


def test_a_motion_jpeg_camera_that_stalls_is_lost() -> None:
    with serving(frames=2) as server, watching(f"{server.url}#silence=300ms") as watched:
        watched.good()
        lost = watched.lost()
        assert "secret" not in lost.fault_detail + lost.source


def test_a_cut_jpeg_is_incomplete_and_never_filled_from_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cv2.imencode(".jpg", tiny.good_picture(1))[1].tobytes()
    cut = whole[: len(whole) // 2]
    pictures = iter([whole, cut])
    monkeypatch.setattr("mjpeg_server.cv2.imencode", lambda *_: (True, np.frombuffer(next(pictures), np.uint8)))
    with serving(frames=2, pause_s=0.05) as server, watching(server.url) as watched:
        watched.good()
        frame = watched.next(lambda frame: frame.fault is Reason.FRAME_INCOMPLETE)
    assert frame.image is None
    assert "damaged JPEG" in frame.fault_detail


@pytest.fixture
def authority() -> trustme.CA:
    """Who signed the camera's certificate: nobody that this machine knows."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """Of the camera."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_a_camera_with_a_certificate_of_its_own_is_read_where_that_is_named(
    authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "camera.pem"))
    monkeypatch.chdir(tmp_path)
    with serving(frames=3, pause_s=0.05, tls=tls) as server, watching(f"{server.url}#ca=camera.pem") as watched:
        assert np.shape(watched.good().image) == (tiny.HEIGHT, tiny.WIDTH, 3)


def test_a_camera_with_an_unknown_certificate_gets_no_password(tls: ssl.SSLContext) -> None:
    with serving(frames=3, tls=tls) as server:
        source = open_source(server.url)
        with pytest.raises(SourceError, match=r"CERTIFICATE_VERIFY_FAILED.*#ca=FILE"):
            source.open()
        source.close()
        assert server.clients == 0


def test_an_encrypted_rtsp_camera_is_read_where_its_certificate_is_known_and_else_gets_no_password(
    authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "camera.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    with rtsp_server(tmp_path / "server.pem") as server:
        with watching(f"{server.url}#ca={tmp_path / 'camera.pem'}") as watched:
            assert np.shape(watched.good().image) == (240, 320, 3)
        source = open_source(server.url)
        with pytest.raises(SourceError, match=r"rtsps:// who signed its certificate \(#ca=FILE\)"):
            source.open()
        source.close()


def test_a_certificate_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"takes a file for ca; there is no absent\.pem"):
        open_source("https://10.0.0.7/stream#ca=absent.pem")


def test_a_web_page_is_no_camera() -> None:
    with serving(frames=1) as server:
        source = open_source(server.url.replace("/stream", "/page"))
        with pytest.raises(SourceError, match=r"expected motion JPEG .*, came text/html"):
            source.open()
        source.close()


@pytest.fixture
def gstreamer() -> None:
    try:
        interpreter("gst")
    except MissingDependencyError as exc:
        pytest.skip(str(exc))


@pytest.mark.usefixtures("gstreamer")
@pytest.mark.parametrize(
    ("format_", "name", "shape"),
    [("BGR", "bgr8", (47, 61, 3)), ("GRAY8", "mono8", (47, 61)), ("I420", "bgr8", (48, 64, 3))],
)
def test_a_pipeline_delivers_packed_rows(format_: str, name: str, shape: tuple[int, ...]) -> None:
    caps = f"video/x-raw,format={format_},width={shape[1]},height={shape[0]}"
    with watching(f"gst://videotestsrc pattern=white is-live=true ! {caps}") as watched:
        frame = watched.good()
    assert (frame.pixel_format, np.shape(frame.image)) == (name, shape)
    assert np.min(np.asarray(frame.image)) >= 230  # video white


@pytest.mark.usefixtures("gstreamer")
def test_a_pipeline_that_ends_is_lost_and_starts_again() -> None:
    with watching("gst://videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48") as watched:
        watched.good()
        assert "has ended" in watched.lost().fault_detail
        watched.good()


@pytest.mark.usefixtures("gstreamer")
def test_words_that_are_no_pipeline_are_refused_with_the_words_of_gstreamer() -> None:
    source = open_source("gst://nosuchelement")
    with pytest.raises(SourceError, match='no element "nosuchelement"'):
        source.open()
    source.close()
