"""A camera that takes a picture for each edge at its input: each is a part, silence is none, and what is lost on the way is UNKNOWN."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from line_camera import LineCamera, line_camera
from line_camera_program import CONTINUOUS, DELAY_REGISTER, EXPOSURE_AUTO_REGISTER, GAIN_AUTO_REGISTER, OFF
from scripted import CollectingSink
from test_line_on_cameras import Running, judged
from tiny import HEIGHT, WIDTH
from watching import watching

from lad_edge.errors import SourceError, UsageError
from lad_edge.inspector import Inspector, Options
from lad_edge.sources.converted import Converted
from lad_edge.sources.opening import open_source
from lad_edge.values import Reason, Verdict

SIZE = f"size={WIDTH}x{HEIGHT}"


def number(frame_id: str) -> int:
    return int(frame_id.rpartition("#")[2])


@pytest.mark.parametrize("activation", ["RisingEdge", "FallingEdge"])
def test_one_edge_is_one_picture_and_silence_is_no_fault(tmp_path: Path, activation: str) -> None:
    with line_camera(tmp_path) as camera:
        uri = f"{camera.uri}?trigger=line&line=Line1&activation={activation}&{SIZE}"
        with watching(uri) as watched:
            assert watched.capture.opened.wait(20)
            time.sleep(1.5)  # longer than a camera may be silent, and than it remembers who controls it
            numbers = []
            for _ in range(3):
                camera.edge()
                numbers.append(number(watched.good().frame_id))
            assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
            assert watched.mailbox.take(0.3) is None
            assert watched.capture.reopened == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("line=Line7", "has no TriggerSource Line7; it has Line0, Line1"),
        ("line=Line1&activation=LevelHigh", "has no TriggerActivation LevelHigh; it has RisingEdge, FallingEdge"),
    ],
)
def test_an_input_that_the_camera_does_not_have_is_named_with_those_that_it_has(
    tmp_path: Path, options: str, message: str
) -> None:
    with line_camera(tmp_path) as camera:
        source = open_source(f"{camera.uri}?trigger=line&{options}")
        with pytest.raises(SourceError, match=message):
            source.open()
        source.close()


@pytest.mark.parametrize(("delay", "microseconds"), [("200us", 200), ("1.5ms", 1500), ("70", 70)])
def test_a_delay_behind_the_edge_reaches_the_camera(tmp_path: Path, delay: str, microseconds: int) -> None:
    with line_camera(tmp_path) as camera, watching(f"{camera.uri}?trigger=line&delay={delay}&{SIZE}") as watched:
        assert watched.capture.opened.wait(20)
        assert camera.read(DELAY_REGISTER) == microseconds
        camera.edge()
        watched.good()


@pytest.mark.parametrize(
    ("option", "register", "other"),
    [
        ("exposure=2ms", EXPOSURE_AUTO_REGISTER, GAIN_AUTO_REGISTER),
        ("gain=3", GAIN_AUTO_REGISTER, EXPOSURE_AUTO_REGISTER),
    ],
)
def test_the_automatic_of_what_is_named_is_turned_off_and_no_other(
    tmp_path: Path, option: str, register: int, other: int
) -> None:
    with line_camera(tmp_path) as camera:
        camera.write(register, CONTINUOUS)
        camera.write(other, CONTINUOUS)
        assert camera.read(register) == CONTINUOUS
        with watching(f"{camera.uri}?trigger=line&{option}&{SIZE}") as watched:
            assert watched.capture.opened.wait(20)
            assert (camera.read(register), camera.read(other)) == (OFF, CONTINUOUS)


def test_words_for_an_input_need_the_trigger_to_be_there() -> None:
    with pytest.raises(UsageError, match="option line is for trigger=line; came trigger=off"):
        open_source("genicam://LAD-1?line=Line1")
    with pytest.raises(UsageError, match="did you mean 'RisingEdge'"):
        open_source("genicam://LAD-1?trigger=line&activation=RisingEge")


def _pulled(camera: LineCamera) -> None:
    camera.pull_out()


def _frozen(camera: LineCamera) -> None:
    camera.freeze()


@pytest.mark.parametrize("away", [_pulled, _frozen], ids=["killed", "stalled"])
def test_a_camera_that_goes_while_it_waits_is_lost_before_the_next_part_comes(
    tmp_path: Path, away: Callable[[LineCamera], None]
) -> None:
    with line_camera(tmp_path) as camera, watching(f"{camera.uri}?trigger=line&{SIZE}") as watched:
        assert watched.capture.opened.wait(20)
        away(camera)
        assert watched.lost().fault is Reason.CAMERA_LOST
        camera.pull_out()
        camera.plug_in()
        while watched.capture.reopened == 0:
            time.sleep(0.05)
        camera.edge()
        watched.good()


def test_a_picture_that_is_lost_on_its_way_is_a_part_of_its_own(
    tmp_path: Path, open_inspector: Callable[..., Inspector]
) -> None:
    with line_camera(tmp_path) as camera:
        source = Converted(open_source(f"{camera.uri}?trigger=line&{SIZE}"), "bgr8")
        running = Running(source, open_inspector(Options(maps_for=frozenset())))
        assert running.line.capture.opened.wait(20)
        camera.edge()
        running.wait_for(judged)
        camera.lose()
        camera.lose()
        camera.edge()
        running.wait_for(judged, since=1)
        running.stop()
    sink: CollectingSink = running.sink
    assert [result.reasons[0] for result in sink.results[1:3]] == [Reason.FRAME_MISSING] * 2
    assert [result.verdict is Verdict.UNKNOWN for result in sink.results] == [False, True, True, False]
