"""A driver process that hangs, crashes, lies and floods: the source says so with a frame, and goes on with a new process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from watching import watching

from lad_edge.sources.child import CameraError, DriverSource, Limits
from lad_edge.sources.interpreters import environment
from lad_edge.sources.ring import SLOTS
from lad_edge.values import Frame, Reason

DRIVER = Path(__file__).with_name("scripted_driver.py")
WAIT_S = 20.0

Make = Callable[..., DriverSource]


@pytest.fixture
def make() -> Iterator[Make]:
    """make(*steps, **request) → a source with the scripted driver, closed after the test."""
    made: list[DriverSource] = []

    def make_one(*steps: str, silence_s: float = 0.5, open_s: float = 5.0, **request: object) -> DriverSource:
        command = [sys.executable, str(DRIVER)]
        request["steps"] = list(steps)
        made.append(DriverSource("cam", "scripted", request, Limits(silence_s, open_s), command=command))
        return made[-1]

    yield make_one
    for source in made:
        source.close()


def read(source: DriverSource, count: int = 1) -> list[Frame]:
    source.open()
    return [frame for _ in range(count) if (frame := source.read()) is not None]


def test_pixels_numbers_and_times_arrive_as_the_driver_had_them(make: Make) -> None:
    before_ns = time.monotonic_ns()
    frames = read(make(size=(5, 2)), 3)
    for number, frame in enumerate(frames, 1):
        np.testing.assert_array_equal(frame.image, np.full((2, 5), number, np.uint8))
        assert (frame.frame_id, frame.pixel_format, frame.source) == (f"cam#{number}", "mono8", "cam")
    times = [before_ns, *(frame.captured_ns for frame in frames), time.monotonic_ns()]
    assert times == sorted(times)


def test_a_picture_stays_what_it_was_while_somebody_holds_it(make: Make) -> None:
    frames = [frame for frame in read(make(period_s=0.001), 60) if frame.image is not None]
    assert len(frames) > SLOTS
    for frame in frames:
        assert frame.frame_id == f"cam#{int(np.asarray(frame.image)[0, 0])}"


def test_pictures_lie_in_the_shared_memory_until_it_runs_short(make: Make) -> None:
    frames = read(make(), SLOTS)
    owners = [np.asarray(frame.image).base is not None for frame in frames]
    assert owners == [True] * (SLOTS - 3) + [False] * 3


def test_what_the_reader_had_no_room_for_is_said_to_be_dropped(make: Make) -> None:
    source = make(period_s=0.001)
    source.open()
    time.sleep(0.3)  # the driver fills all slots meanwhile, and must throw frames away
    frames = [frame for _ in range(400) if (frame := source.read()) is not None]
    dropped = [frame for frame in frames if frame.fault is Reason.DROPPED]
    assert len(dropped) == source.counts["dropped"] > 0
    numbers = [int(frame.frame_id.rpartition("#")[2]) for frame in frames if frame.image is not None]
    assert numbers[-1] == len(frames)  # every number is accounted for


def test_frames_that_never_arrived_come_as_missing_before_the_next_one(make: Make) -> None:
    frames = read(make("frame", "gap", "frame"), 5)
    assert [frame.fault for frame in frames] == [None, Reason.FRAME_MISSING, Reason.FRAME_MISSING, None, None]


def test_a_damaged_frame_is_incomplete_and_counted(make: Make) -> None:
    source = make("damaged")
    (frame,) = read(source)
    assert (frame.fault, frame.fault_detail) == (Reason.FRAME_INCOMPLETE, "scripted: half a frame")
    assert source.counts["incomplete"] == 1


def test_a_format_without_a_layout_keeps_its_name_and_its_bytes(make: Make) -> None:
    (frame,) = read(make("odd", size=(4, 3)))
    assert (frame.pixel_format, np.shape(frame.image)) == ("pfnc_1234", (12,))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("lose", "the cable is out"),
        ("raise", "RuntimeError: scripted: a bug of the driver"),
        ("crash", "died of signal 11"),
        ("hang", "has said nothing for 0.5 s"),
    ],
)
def test_whatever_the_driver_does_the_camera_is_lost_and_opens_again(make: Make, step: str, why: str) -> None:
    source = make("frame", step)
    first, lost = read(source, 2)
    assert first.fault is None
    assert lost.fault is Reason.CAMERA_LOST
    assert why in lost.fault_detail
    (again,) = read(source)
    assert again.frame_id == "cam#1"  # a driver made anew
    assert source.counts["lost"] == 1


def test_a_driver_that_hangs_while_it_opens_is_killed(make: Make) -> None:
    source = make(hang_at_open=True, open_s=0.3)
    with pytest.raises(CameraError, match=r"does not open: it has said nothing for 0\.3 s"):
        source.open()
    assert not source.process.running


def test_a_driver_that_hangs_while_it_closes_holds_nobody_up(make: Make) -> None:
    source = make("lose", hang_at_close=True)
    read(source)
    (again,) = read(source)
    assert again.fault is Reason.CAMERA_LOST
    source.close()
    assert not source.process.running


def test_the_reason_of_a_camera_that_does_not_open_is_told(make: Make) -> None:
    with pytest.raises(CameraError, match="somebody else has it") as caught:
        make(busy=True).open()
    assert caught.value.reason is Reason.CAMERA_BUSY


def test_waiting_is_no_fault_while_the_driver_is_alive(make: Make) -> None:
    (frame,) = read(make(*["nothing"] * 100, silence_s=0.3))
    assert frame.fault is None


def test_an_interruption_ends_a_read_that_waits(make: Make) -> None:
    source = make("frame", *["nothing"] * 10_000)
    with watching(source) as watched:
        watched.good()
    assert not source.process.running


def test_a_killed_process_is_one_lost_frame_and_then_pictures_again(make: Make) -> None:
    with watching(make(period_s=0.005)) as watched:
        for _ in range(3):
            watched.good()
            os.kill(watched.source.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
            assert "died of signal 9" in watched.lost().fault_detail
        watched.good()
        assert watched.capture.counts["reopened"] >= 3
        assert watched.capture.counts["lost"] >= 3


def test_a_line_is_told_why_the_camera_does_not_come_back(make: Make) -> None:
    source = make("frame", "lose")
    with watching(source) as watched:
        watched.good()
        source.process.request = {**source.process.request, "busy": True}
        source.process.kill()
        busy = watched.next(lambda frame: frame.fault is Reason.CAMERA_BUSY)
        assert busy.fault_detail == "scripted: somebody else has it"


def test_the_driver_process_dies_with_its_parent() -> None:
    words = (
        "import os, sys, time; from lad_edge.sources.child import DriverSource;"
        f"source = DriverSource('cam', 'scripted', {{'steps': ['hang']}}, command=[sys.executable, {str(DRIVER)!r}]);"
        "source.open(); print(source.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", words], env=environment(), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    limit_s = time.monotonic() + WAIT_S
    while _runs(child):
        assert time.monotonic() < limit_s
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_opening_and_losing_leaves_no_descriptor_behind(make: Make) -> None:
    source = make("lose")
    read(source)
    before = _descriptors()
    for _ in range(5):
        source.process.kill()
        read(source)
    assert _descriptors() == before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_source_that_is_gone_leaves_no_memory_behind(make: Make) -> None:
    gc.collect()
    before = _memories()
    source = DriverSource("cam", "scripted", {"steps": []}, command=[sys.executable, str(DRIVER)])
    (frame,) = read(source)
    source.close()
    del source
    gc.collect()
    assert _memories() == before + 1  # the picture still lies there
    del frame
    gc.collect()
    assert _memories() == before


def _memories() -> int:
    return Path("/proc/self/maps").read_text().count("lad-edge-frames")


def test_a_driver_process_sees_nothing_that_loads_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", "PYTHONSTARTUP", "GST_PLUGIN_PATH", "OPENCV_FFMPEG_CAPTURE_OPTIONS", "SECRET"):
        monkeypatch.setenv(name, "planted")
    assert "planted" not in environment().values()


def test_pictures_that_somebody_holds_survive_every_new_process(make: Make) -> None:
    source = make(period_s=0.001)
    held = read(source, 3)
    for _ in range(3):
        source.process.kill()
        fresh = read(source, 30)  # more than there are slots
        assert {int(np.asarray(frame.image)[0, 0]) for frame in fresh if frame.image is not None} >= {1, 2, 3}
    assert [int(np.asarray(frame.image)[0, 0]) for frame in held] == [1, 2, 3]
