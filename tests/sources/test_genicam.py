"""A GigE Vision camera on the loopback: what it delivers, how it is set, and that it comes back after anything."""

from __future__ import annotations

import time
from itertools import islice

import numpy as np
import pytest
from gige_camera import GigeCamera, gige_camera
from watching import watching

from lad_edge.errors import SourceError
from lad_edge.sources.child import CameraError, DriverSource
from lad_edge.sources.opening import open_source
from lad_edge.values import Frame, Reason


def frames_of(uri: str, count: int) -> list[Frame]:
    source = open_source(uri)
    source.open()
    try:
        frames = (frame for frame in iter(source.read, None) if frame.image is not None)  # a busy machine loses packets
        return list(islice(frames, count))
    finally:
        source.close()


def test_frames_come_with_the_numbers_and_times_of_the_camera() -> None:
    with gige_camera() as camera:
        frames = frames_of(f"{camera.uri}?fps=40&size=320x240", 6)
    assert [frame.fault for frame in frames] == [None] * 6
    assert {(frame.pixel_format, np.shape(frame.image), frame.source) for frame in frames} == {
        ("mono8", (240, 320), "genicam:LAD-1")
    }
    numbers = [int(frame.frame_id.rpartition("#")[2]) for frame in frames]
    assert min(np.diff(numbers)) >= 1
    assert min(np.diff([frame.captured_ns for frame in frames])) > 0
    assert max(time.monotonic_ns() - frame.captured_ns for frame in frames) < 5e9


def test_exposure_and_gain_reach_the_camera() -> None:
    with gige_camera() as camera:
        dark = frames_of(f"{camera.uri}?exposure=3ms&gain=0&fps=40&size=320x240", 3)[-1]
        bright = frames_of(f"{camera.uri}?exposure=20000&gain=0&fps=40&size=320x240", 3)[-1]
    assert np.mean(bright.image) > 2 * np.mean(dark.image) > 0


@pytest.mark.parametrize("option", ["exposure=200s", "gain=300"])
def test_what_the_camera_cannot_do_is_said_with_its_limit(option: str) -> None:
    with gige_camera() as camera:
        source = open_source(f"{camera.uri}?{option}")
        with pytest.raises(CameraError, match="greater than allowed maximum"):
            source.open()
        source.close()


def test_a_size_beyond_the_sensor_leaves_the_camera_as_it_is_for_the_gate_to_refuse() -> None:
    with gige_camera() as camera:
        (frame,) = frames_of(f"{camera.uri}?size=5000x5000", 1)
    assert np.shape(frame.image) == (512, 512)


def test_one_software_trigger_is_one_picture() -> None:
    with gige_camera() as camera:
        source = open_source(f"{camera.uri}?trigger=software")
        assert isinstance(source, DriverSource)
        with watching(source) as watched:
            assert watched.capture.opened.wait(20)
            numbers = []
            for _ in range(3):
                source.trigger()
                numbers.append(int(watched.good().frame_id.rpartition("#")[2]))
            assert list(np.diff(numbers)) == [1, 1]
            assert watched.mailbox.take(0.3) is None  # no more than was asked for, and silence is no fault


def test_buffers_with_lost_packets_are_incomplete_and_counted() -> None:
    with gige_camera(lost_per_mille=20) as camera:
        source = open_source(f"{camera.uri}?fps=40")
        assert isinstance(source, DriverSource)
        with watching(source) as watched:
            frame = watched.next(lambda frame: frame.fault is Reason.FRAME_INCOMPLETE)
    assert frame.image is None
    assert "is damaged: missing-packets" in frame.fault_detail
    assert source.counts["incomplete"] >= 1


def test_a_camera_that_somebody_else_controls_is_busy() -> None:
    with gige_camera() as camera, watching(camera.uri) as watched:
        watched.good()
        second = open_source(camera.uri)
        with pytest.raises(CameraError, match="controlled by another program") as caught:
            second.open()
        second.close()
        assert caught.value.reason is Reason.CAMERA_BUSY
        assert watched.good().fault is None


def test_another_camera_at_the_address_is_the_wrong_one() -> None:
    with gige_camera("OTHER"):
        source = open_source("genicam://127.0.0.1?serial=LAD-1")
        with pytest.raises(CameraError, match="answers the camera OTHER, not LAD-1") as caught:
            source.open()
        source.close()
    assert caught.value.reason is Reason.WRONG_CAMERA


def test_a_camera_that_is_not_there_names_those_that_are() -> None:
    with gige_camera("OTHER"):
        source = open_source("genicam://LAD-1")
        with pytest.raises(SourceError, match="it is not found; cameras that answer: genicam://OTHER"):
            source.open()
        source.close()


def _pulled(camera: GigeCamera) -> None:
    camera.pull_out()


def _frozen(camera: GigeCamera) -> None:
    camera.freeze()


def _plugged_in(camera: GigeCamera) -> None:
    camera.plug_in()


def _thawed(camera: GigeCamera) -> None:
    camera.thaw()


@pytest.mark.parametrize(("away", "back"), [(_pulled, _plugged_in), (_frozen, _thawed)], ids=["killed", "stalled"])
def test_a_camera_that_went_away_is_lost_at_once_and_comes_back(away: object, back: object) -> None:
    with gige_camera() as camera, watching(f"{camera.uri}?fps=40") as watched:
        for _ in range(2):
            watched.good()
            away(camera)  # type: ignore[operator]
            lost = watched.lost()
            assert lost.image is None
            back(camera)  # type: ignore[operator]
            watched.good()
        assert watched.capture.reopened >= 2
