"""teach --register: the region follows parts that shift, at teach and at run, and what is found is told in pixels of the frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kits import Picture, moved, taught, tray

import lad_edge
from lad_edge import bundle as bundles
from lad_edge.cli import main
from lad_edge.datasets.synthetic import make_sample
from lad_edge.datasets.synthetic_defects import nth_defect
from lad_edge.errors import BundleError, DataError
from lad_edge.inspector import Inspector
from lad_edge.metrics import auroc
from lad_edge.stream.records import to_record
from lad_edge.teaching import Lesson, Options
from lad_edge.values import Reason, Verdict
from lad_edge.views import Follower, room_around

SHIFTS = np.random.default_rng(3).uniform(-0.03, 0.03, (200, 2))
SHIFTS[0] = 0  # the first part marks the place


def shifted(index: int, split: str = "train/good") -> Picture:
    return moved(tray(index, split), *SHIFTS[index])


def bad_tray(index: int) -> Picture:
    defect = nth_defect("structural_anomalies", index)
    picture = make_sample(7, "test/structural_anomalies", index, defect, width_px=320, freedom=0.25).image
    return moved(picture, *SHIFTS[100 + index])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(tmp_path_factory.mktemp("registered") / "tray.lad", shifted, 30, register=0.08)


def area_under_the_curve(engine: Path) -> float:
    with lad_edge.load(engine, threads=1) as inspector:
        good, bad = (
            [inspector(picture(index)).score for index in range(20)]
            for picture in (lambda index: shifted(index, "test/good"), bad_tray)
        )
    return float(auroc(good, bad))


def test_parts_that_shift_are_told_apart_better_when_the_region_follows(engine: Path, tmp_path: Path) -> None:
    fixed = taught(tmp_path / "fixed.lad", shifted, 30)
    assert area_under_the_curve(engine) > area_under_the_curve(fixed) + 0.02


def test_the_shift_of_each_part_is_in_its_record(engine: Path) -> None:
    with lad_edge.load(engine, threads=1) as inspector:
        still, right = inspector(tray(3, "test/good")), inspector(moved(tray(3, "test/good"), 0.05, -0.04))
    assert still.moved_px is not None
    assert right.moved_px is not None
    assert right.moved_px[0] - still.moved_px[0] == pytest.approx(0.05 * 320, abs=2)
    assert right.moved_px[1] - still.moved_px[1] == pytest.approx(-0.04 * 240, abs=2)
    assert to_record(right)["moved_px"] == list(right.moved_px)


def test_scores_hardly_change_when_the_part_shifts(engine: Path) -> None:
    with lad_edge.load(engine, threads=1) as inspector:
        there = [inspector(tray(index, "test/good")).score for index in range(6)]
        elsewhere = [inspector(moved(tray(index, "test/good"), 0.04, 0.03)).score for index in range(6)]
    np.testing.assert_allclose(elsewhere, there, rtol=0.35)


def test_what_is_found_moves_with_the_part(engine: Path) -> None:
    spotted = tray(3, "test/good").copy()
    spotted[110:130, 150:170] = 255
    with lad_edge.load(engine, threads=1) as inspector:
        here, there = inspector(spotted), inspector(moved(spotted, 0.05, 0.0))
    assert here.verdict is there.verdict is Verdict.NG
    assert 150 <= here.regions[0].peak_x_px < 170
    assert 166 <= there.regions[0].peak_x_px < 186


def test_a_part_beyond_the_reach_of_the_region_is_misplaced(engine: Path) -> None:
    with lad_edge.load(engine, threads=1) as inspector:
        result = inspector(moved(tray(0), 0.15, 0.0))
    assert result.verdict is Verdict.UNKNOWN
    assert Reason.PART_MISPLACED in result.reasons
    assert result.moved_px is not None
    assert result.moved_px[0] == 26


def test_a_good_part_beyond_the_reach_is_not_taught() -> None:
    with Lesson(Options(precision="f32", threads=1, register=0.04)) as lesson:
        for index in range(4):
            lesson.show(f"{index}.png", tray(index), "bgr8")
        with pytest.raises(
            DataError, match=r"far\.png: the part lies \+\d+ px across.* the first part marks the place"
        ):
            lesson.show("far.png", moved(tray(5), 0.12, 0.0), "bgr8")
        assert len(lesson) == 4


def test_a_lesson_goes_on_with_the_place_of_its_engine(engine: Path) -> None:
    with Lesson(Options(threads=1), bundles.read(engine)) as lesson:
        lesson.show("more.png", moved(tray(60), 0.03, 0.03), "bgr8")
        manifest = lesson.finish().manifest
    assert manifest.registration is not None
    assert manifest.registration.n == 31
    assert manifest.contract.roi == bundles.read(engine).manifest.contract.roi


def test_info_says_how_far_the_region_moves(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(engine)]) == 0
    assert "which follows the part by up to 26 px to each side and 19 px up and down" in capsys.readouterr().out


def test_a_region_that_would_leave_the_frame_is_refused(engine: Path, tmp_path: Path) -> None:
    bundle = bundles.read(engine)
    assert bundle.manifest.registration is not None
    farther = replace(bundle.manifest, registration=replace(bundle.manifest.registration, most_px=(27, 19)))
    with pytest.raises(BundleError, match="moves the region"):
        bundles.write(tmp_path / "x.lad", farther, bundle.tensors)


def test_the_first_part_marks_the_place_and_pixels_are_not_resampled() -> None:
    roi, most_px = room_around(320, 240, 0.08)
    follower = Follower(roi, most_px)
    first = follower.learn(tray(0))
    second = follower.learn(moved(tray(0), 16 / 320, -12 / 240))
    assert (first.moved_px, second.moved_px) == ((0, 0), (16, -12))
    np.testing.assert_array_equal(second.inspected, first.inspected)


def test_an_engine_without_registration_says_no_shift(tmp_path: Path) -> None:
    with Lesson(Options(precision="f32", threads=1)) as lesson:
        for index in range(5):
            lesson.show(f"{index}.png", tray(index), "bgr8")
        lesson.finish().write(tmp_path / "still.lad")
    with Inspector(bundles.read(tmp_path / "still.lad")) as inspector:
        assert inspector(tray(9)).moved_px is None
