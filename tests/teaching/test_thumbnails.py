"""Small pictures of good parts: kept small, chosen from all, and shown at the place that was found."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_lesson import OPTIONS, SIZE, lamps

import lad_edge
from lad_edge import bundle as bundles
from lad_edge.cli import main
from lad_edge.errors import EngineError
from lad_edge.images import decode_image
from lad_edge.scoring import thumbnails
from lad_edge.scoring.thumbnails import ENDS, MOST_BYTES, PICTURES, pack, thumbnail, unpack
from lad_edge.stream.overlays import draw
from lad_edge.teaching import Lesson
from lad_edge.teaching.stored import spread_out
from lad_edge.values import Frame, Verdict

RED, GREEN = (30, 30, 200), (30, 200, 30)


def taught(folder, options=OPTIONS, start=None, seeds=range(16)):
    """Path of an engine; start: path of one to go on with."""
    with Lesson(options, start and bundles.read(start)) as lesson:
        for seed in seeds:
            lesson.show(f"{seed}.png", lamps(seed), "bgr8")
        path = folder / f"{len(lesson)}.lad"
        lesson.finish().write(path)
        return path


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return taught(tmp_path_factory.mktemp("taught"))


@pytest.mark.parametrize("shape", [(1024, 1280, 3), (20, 700), (5, 4, 3), (900, 3, 3)])
def test_a_thumbnail_is_small_and_keeps_the_proportions(shape):
    picture = decode_image(thumbnail(np.full(shape, 90, np.uint8)), "t").image
    assert picture.ndim == len(shape)
    assert max(picture.shape[:2]) == min(256, max(shape))
    assert picture.shape[1] == max(1, round(shape[1] * max(picture.shape[:2]) / max(shape[:2])))


def test_noise_does_not_make_it_larger_than_allowed():
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3)).astype(np.uint8)
    assert len(thumbnail(noise)) <= MOST_BYTES


def test_what_is_packed_comes_back_with_its_gaps():
    jpegs = [b"one", b"", b"three"]
    assert unpack(pack(jpegs), 3) == jpegs
    assert pack([b"", b""]) == {}
    assert unpack({}, 3) == []


@pytest.mark.parametrize("ends", [[3, 3], [3, 3, 7], [5, 3, 8], [3, 8, 8, 8]])
def test_ends_that_do_not_fit_the_pictures_are_refused(ends):
    tables = {PICTURES: np.zeros(8, np.uint8), ENDS: np.array(ends, np.int64)}
    with pytest.raises(EngineError, match="not those of its 3 parts"):
        unpack(tables, 3)


def test_pictures_are_chosen_from_all_corners():
    points = np.concatenate([np.random.default_rng(1).normal(0, 0.01, (50, 2)), [[9, 0], [0, 9], [9, 9]]])
    allowed = [True] * 52 + [False]
    kept = spread_out(points, allowed, 3)
    assert kept.sum() == 3
    assert kept[50]
    assert kept[51]
    assert not kept[52]
    assert spread_out(points[:5], [True] * 5, 64).all()


def test_the_good_part_shows_what_the_other_lamp_calls_for(engine):
    """Two lamps of different colours: each is wrong for the other; the good part beside it has the colour that belongs there."""
    with lad_edge.load(engine, threads=1) as inspector:
        picture = lamps(3, alike=False)
        result = inspector(picture)
    assert result.verdict is Verdict.NG
    assert len(result.good_patches) == len(result.findings)
    for patch in result.good_patches:
        place = np.s_[patch.y_px : patch.y_px + patch.height_px, patch.x_px : patch.x_px + patch.width_px]
        of_part, of_good = (np.median(_lamp(area), axis=0) for area in (picture[place], patch.picture))
        assert (of_part.argmax(), of_good.argmax()) in {(1, 2), (2, 1)}  # green and red, the other way round
        assert patch.part.endswith(".png")


def _lamp(area):
    """(n, 3) of the pixels that shine."""
    return area[np.ptp(area.astype(int), axis=2) > 80]


def test_info_says_how_many_pictures_an_engine_holds(engine, tmp_path, capsys):
    assert main(["info", str(engine)]) == 0
    assert "  16 small pictures of good parts, 0.0" in capsys.readouterr().out
    assert main(["info", str(taught(tmp_path, replace(OPTIONS, thumbnails=False)))]) == 0
    assert "small pictures" not in capsys.readouterr().out


def test_good_parts_have_nothing_beside_them(engine):
    with lad_edge.load(engine, threads=1) as inspector:
        results = [inspector(lamps(seed)) for seed in range(100, 104)]
    assert not any(result.good_patches for result in results if result.verdict is Verdict.OK)


def test_thumbnails_and_places_lie_in_the_region_of_interest(tmp_path):
    roi = (8, 24, 112, 48)
    path = taught(tmp_path, replace(OPTIONS, roi=roi))
    stored = unpack(bundles.read(path).tensors, 16)
    assert decode_image(stored[0], "t").image.shape == (48, 112, 3)
    with lad_edge.load(path, threads=1) as inspector:
        result = inspector(lamps(3, alike=False))
    assert result.good_patches
    for patch in result.good_patches:
        assert roi[0] <= patch.x_px < patch.x_px + patch.width_px <= roi[0] + roi[2]
        assert roi[1] <= patch.y_px < patch.y_px + patch.height_px <= roi[1] + roi[3]


def test_an_engine_without_thumbnails_stays_without(tmp_path):
    path = taught(tmp_path, replace(OPTIONS, thumbnails=False))
    with lad_edge.load(path, threads=1) as inspector:
        result = inspector(lamps(3, alike=False))
    assert result.findings
    assert result.good_patches == ()
    assert PICTURES not in bundles.read(taught(tmp_path, OPTIONS, path, range(16, 20))).tensors


def test_going_on_keeps_the_old_pictures_and_adds_the_new(engine, tmp_path, monkeypatch):
    old, new = (bundles.read(path).tensors for path in (engine, taught(tmp_path, OPTIONS, engine, range(16, 20))))
    assert unpack(new, 20)[:16] == unpack(old, 16)
    assert all(unpack(new, 20)[16:])
    monkeypatch.setattr(thumbnails, "MOST", 10)
    fewer = unpack(bundles.read(taught(tmp_path, OPTIONS, engine, range(20, 22))).tensors, 18)
    assert sum(map(bool, fewer)) == 10


@pytest.mark.parametrize("width", [128, 480])
def test_an_overlay_has_the_good_part_below_the_part(engine, width):
    with lad_edge.load(engine, threads=1) as inspector:
        picture = lamps(3, alike=False)
        result = inspector(picture)
    plain = draw(Frame(1, "1", picture, "bgr8", 0, 0), replace(result, good_patches=()))
    large = cv2.resize(picture, (width, width * SIZE[0] // SIZE[1]))
    drawn = draw(Frame(1, "1", picture, "bgr8", 0, 0), result)
    assert drawn.shape[1] == plain.shape[1] == picture.shape[1]
    strip = drawn[len(plain) :]
    assert len(strip) > 20
    shown = _lamp(strip)
    assert {int(colour.argmax()) for colour in shown} == {1, 2}  # what is there and what belongs there
    assert draw(Frame(1, "1", large, "bgr8", 0, 0), result).shape[1] == width
