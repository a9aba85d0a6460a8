"""A whole line on real sources: what is lost is UNKNOWN, good verdicts come back by themselves, no record is missing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import tiny
from gige_camera import gige_camera
from scripted import CollectingSink

from lad_edge.inspector import Inspector, Options
from lad_edge.sources.converted import Converted
from lad_edge.sources.opening import open_source
from lad_edge.sources.source import Source
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.values import Result, Verdict

WAIT_S = 20.0


class Running:
    """A line in a thread of its own, which the test watches through its sink."""

    def __init__(self, source: Source, inspector: Inspector) -> None:
        self.sink, self._stop = CollectingSink(), threading.Event()
        self.line = Line(source, inspector, [self.sink], LineOptions(stop=self._stop.is_set))
        self._thread = threading.Thread(target=self.line.run)
        self._thread.start()

    def wait_for(self, fits: Callable[[Result], bool], since: int = 0) -> Result:
        """The first record from number `since` on that fits."""
        limit_s = time.monotonic() + WAIT_S
        while time.monotonic() < limit_s:
            found = next((result for result in self.sink.results[since:] if fits(result)), None)
            if found is not None:
                return found
            time.sleep(0.005)
        raise AssertionError(f"no such record; came {[result.reasons for result in self.sink.results[-5:]]}")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)
        assert self.sink.seqs == list(range(1, len(self.sink.seqs) + 1))


@pytest.fixture
def run(open_inspector: Callable[..., Inspector]) -> Iterator[Callable[[Source], Running]]:
    """run(source) → a line on it; stopped, and its records counted, after the test."""
    started: list[Running] = []

    def run_one(source: Source) -> Running:
        started.append(Running(source, open_inspector(Options(maps_for=frozenset(), live=False))))
        return started[-1]

    yield run_one
    for running in started:
        running.stop()


def judged(result: Result) -> bool:
    return result.verdict is not Verdict.UNKNOWN


def test_a_line_outlives_its_camera(run: Callable[[Source], Running]) -> None:
    with gige_camera() as camera:
        running = run(Converted(open_source(f"{camera.uri}?size={tiny.WIDTH}x{tiny.HEIGHT}&fps=40"), "bgr8"))
        running.wait_for(judged)
        camera.pull_out()
        since = len(running.sink.results) + 1  # a frame may be on its way
        lost = running.wait_for(lambda result: "CAMERA_LOST" in result.reasons, since - 1)
        camera.plug_in()
        running.wait_for(judged, lost.seq)


def test_each_file_of_a_hot_folder_is_judged_once_and_waiting_is_no_fault(
    run: Callable[[Source], Running], tmp_path: Path
) -> None:
    running = run(open_source(f"dir://{tmp_path}?ready=rename"))
    time.sleep(1.2)  # longer than a camera may be silent
    for number in range(10):
        cv2.imwrite(str(tmp_path / f".{number}.png"), tiny.good_picture(number))
        (tmp_path / f".{number}.png").rename(tmp_path / f"{number}.png")
    running.wait_for(lambda result: result.seq == 10)
    assert sorted(result.frame_id for result in running.sink.results) == sorted(f"{number}.png" for number in range(10))
    assert {result.verdict for result in running.sink.results} <= {Verdict.OK, Verdict.NG}
