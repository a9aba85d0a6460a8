"""Overlays: a scale that never depends on the picture, and pictures that are really saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripted import frame
from tiny import good_picture, spotted_picture

from lad_edge.errors import SinkError
from lad_edge.inspector import Inspector
from lad_edge.stream.overlays import OverlaySink, draw, file_name, heat_level, heat_span
from lad_edge.values import Result, Verdict

BANNER_PX = 44


def judged(inspector: Inspector, picture: np.ndarray, **changes: object) -> Result:
    return replace(inspector(picture), **changes)  # type: ignore[arg-type]


def test_the_scale_is_anchored_at_the_threshold_and_not_at_the_picture() -> None:
    levels = heat_level(np.array([[0.0, 0.1, 0.2, 5.0, -3.0]], np.float32), 0.1)
    assert levels.tolist() == [[0, 128, 255, 255, 0]]
    assert heat_level(np.array([[0.1]], np.float32), 0.1)[0, 0] == 128  # alone in its picture: the same level


def test_what_is_not_finite_is_as_hot_as_can_be() -> None:
    assert heat_level(np.array([[np.nan, np.inf, -np.inf]], np.float32), 0.1).tolist() == [[255, 255, 255]]


def test_a_good_part_stays_pale_and_a_defect_gets_warm(open_inspector: Callable[..., Inspector]) -> None:
    inspector = open_inspector()
    for picture, changed in ((np.full((48, 64, 3), 128, np.uint8), False), (spotted_picture(1, (0, 0, 0)), True)):
        drawn = draw(frame(picture), replace(judged(inspector, picture), regions=()))
        heated = drawn[BANNER_PX : BANNER_PX + 48].astype(int)
        assert bool(np.abs(heated - picture).max() > 60) is changed


def test_heat_lies_inside_the_region_of_interest(open_inspector: Callable[..., Inspector]) -> None:
    roi = (16, 8, 40, 32)
    picture = spotted_picture(1)
    result = replace(judged(open_inspector(roi=roi), picture), regions=())
    heated = draw(frame(picture), result, roi)[BANNER_PX : BANNER_PX + 48]
    outside = np.ones((48, 64), bool)
    outside[8:40, 16:56] = False
    np.testing.assert_array_equal(heated[outside], picture[outside])
    assert (heated[20:28, 28:36] != picture[20:28, 28:36]).any()


def test_the_picture_of_the_line_is_not_drawn_upon(open_inspector: Callable[..., Inspector]) -> None:
    picture = spotted_picture(1)
    kept = picture.copy()
    draw(frame(picture), judged(open_inspector(), picture))
    np.testing.assert_array_equal(picture, kept)


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (1024, 1280, 3), (30, 2600, 3), (1, 1, 3)])
def test_any_picture_can_be_drawn(open_inspector: Callable[..., Inspector], shape: tuple[int, ...]) -> None:
    result = judged(open_inspector(), spotted_picture(1), regions=())
    drawn = draw(frame(good_picture(1, shape)), result)
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] == min(shape[1], 1280)


def test_pictures_of_the_wanted_verdicts_are_saved(open_inspector: Callable[..., Inspector], tmp_path: Path) -> None:
    inspector, folder = open_inspector(), tmp_path / "new" / "folder"
    sink = OverlaySink(folder, {Verdict.NG}, None, "wait")
    for i in range(30):
        picture = spotted_picture(i) if i % 2 else good_picture(i)
        sink.write(frame(picture), judged(inspector, picture))
    sink.close()
    saved = sorted(folder.iterdir())
    assert len(saved) == sink.saved == 15
    assert all("_NG_" in path.name for path in saved)
    assert all(cv2.imread(str(path)) is not None for path in saved)


def test_a_picture_that_cannot_be_saved_is_an_error_and_leaves_no_half(
    open_inspector: Callable[..., Inspector], tmp_path: Path
) -> None:
    picture = spotted_picture(1)
    result = judged(open_inspector(), picture)
    (tmp_path / file_name(result)).symlink_to("/dev/full")
    sink = OverlaySink(tmp_path, {Verdict.NG}, None, "wait")
    sink.write(frame(picture), result)
    with pytest.raises(SinkError, match="after 0 pictures"):
        sink.close()
    with pytest.raises(SinkError):
        sink.write(frame(picture), result)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SinkError, match="cannot make the folder"):
        OverlaySink(tmp_path / "file" / "x", {Verdict.NG}, None, "wait")


@pytest.mark.parametrize("frame_id", ["../../etc/passwd", "a/b", "", "x" * 300, "é", "a\0b"])
def test_an_id_never_becomes_a_path(open_inspector: Callable[..., Inspector], frame_id: str) -> None:
    name = file_name(judged(open_inspector(), good_picture(1), frame_id=frame_id))
    assert "/" not in name
    assert ".." not in name
    assert name.isascii()
    assert len(name) < 100


def test_the_span_of_the_scale_is_three_times_the_room_of_the_median_good_part() -> None:
    good = np.array([0.50, 0.51, 0.53])
    assert heat_span(good, 0.54) == pytest.approx(0.09)
    levels = heat_level(np.array([[0.45, 0.51, 0.54, 0.63]], np.float32), 0.54, heat_span(good, 0.54))
    assert levels.tolist() == [[0, 85, 128, 255]]
