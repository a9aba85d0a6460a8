"""teach --mask: what nobody shall look at changes no score, is found nowhere and is kept nowhere; the rest is judged as ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from kits import Picture, moved, taught, tray
from numpy.typing import NDArray

import lad_edge
from lad_edge import bundle as bundles
from lad_edge.cli import main
from lad_edge.errors import BundleError
from lad_edge.teaching import Lesson, Options
from lad_edge.values import Verdict
from lad_edge.views import Painter

ROI = (9, 8, 301, 220)  # no multiple of eight wide
HIDDEN = np.s_[60:130, 100:180]  # of the frame


def mask() -> NDArray[np.bool_]:
    looked_at = np.ones((240, 320), bool)
    looked_at[HIDDEN] = False
    return looked_at


def spotted(picture: Picture, place: tuple[slice, slice]) -> Picture:
    picture = picture.copy()
    picture[place] = np.random.default_rng(5).integers(0, 256, picture[place].shape)
    return picture


def brighter(picture: Picture, place: tuple[slice, slice]) -> Picture:
    picture = picture.copy()
    picture[place] = np.minimum(picture[place], 225) + 30
    return picture


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(tmp_path_factory.mktemp("masked") / "tray.lad", tray, 20, gates=False, mask=mask(), roi=ROI)


def test_what_lies_under_the_mask_changes_nothing(engine: Path) -> None:
    with lad_edge.load(engine, threads=1) as inspector:
        plain, under = inspector(tray(30)), inspector(spotted(tray(30), HIDDEN))
        beside = inspector(spotted(tray(30), np.s_[150:170, 220:240]))
    assert under.score == plain.score
    assert (under.verdict, under.regions) == (plain.verdict, plain.regions)
    assert under.anomaly_map is not None
    assert plain.anomaly_map is not None
    np.testing.assert_array_equal(under.anomaly_map, plain.anomaly_map)
    assert beside.verdict is Verdict.NG
    assert 220 <= beside.regions[0].peak_x_px < 240


def test_what_reaches_under_the_mask_is_found_and_shown_outside_of_it_alone(engine: Path) -> None:
    with lad_edge.load(engine, threads=1) as inspector:
        result = inspector(spotted(tray(30), np.s_[100:120, 160:215]))
    assert result.verdict is Verdict.NG
    assert result.anomaly_map is not None
    x, y, width, height = ROI
    drawn = cv2.resize(result.anomaly_map, (width, height), interpolation=cv2.INTER_NEAREST)
    rows, columns = HIDDEN
    inside = drawn[rows.start - y + 2 : rows.stop - y - 2, columns.start - x + 2 : columns.stop - x - 2]
    assert not inside.any()
    assert all(region.peak_x_px >= HIDDEN[1].stop - 2 for region in result.regions)


def test_hidden_pixels_are_kept_nowhere_in_the_engine(engine: Path) -> None:
    for frame in bundles.read(engine).golden_frames:
        assert (frame[HIDDEN] == 127).all()


def test_findings_name_no_cell_under_the_mask(engine: Path) -> None:
    bundle = bundles.read(engine)
    looked_at = bundle.tensors["masked_ridge/looked_at"]
    assert not looked_at.all()
    with lad_edge.load(engine, threads=1, threshold=1e-9) as inspector:
        found = [sentence.split() for index in range(30, 36) for sentence in inspector(tray(index)).findings]
    places = [(int(words[3].rstrip(",")) - 1, int(words[5]) - 1) for words in found]
    assert places
    assert all(looked_at[place] for place in places)


def test_the_mask_moves_with_a_part_that_the_region_follows(tmp_path: Path) -> None:
    far = moved(tray(30), 0.05, 0.0)
    rows, columns = HIDDEN
    moving = taught(tmp_path / "moving.lad", tray, 20, gates=False, mask=mask(), register=0.08)
    with lad_edge.load(moving, threads=1) as inspector:
        plain = inspector(far)
        assert plain.moved_px is not None
        right, down = plain.moved_px
        rows = slice(rows.start + down, rows.stop + down)
        under = inspector(brighter(far, np.s_[rows, columns.start + right : columns.stop + right]))
        beside = inspector(brighter(far, np.s_[rows, columns.start + right - 20 : columns.start + right]))
    assert right >= 12
    assert under.moved_px == beside.moved_px == plain.moved_px  # the place itself is looked for in the whole picture
    assert under.score == plain.score
    assert beside.score != plain.score


def test_a_lesson_goes_on_with_the_mask_of_its_engine(engine: Path) -> None:
    with Lesson(Options(threads=1), bundles.read(engine)) as lesson:
        lesson.show("more.png", spotted(tray(60), HIDDEN), "bgr8")
        more = lesson.finish()
    assert more.manifest.mask == bundles.read(engine).manifest.mask
    np.testing.assert_array_equal(more.tensors["mask/looked_at"], bundles.read(engine).tensors["mask/looked_at"])


@pytest.mark.parametrize("width", [1, 7, 8, 9, 31, 33])
def test_a_painted_picture_has_grey_where_nobody_looks(width: int) -> None:
    rng = np.random.default_rng(width)
    looked_at, picture = rng.random((5, width)) < 0.5, rng.integers(0, 256, (5, width, 3)).astype(np.uint8)
    painted = Painter(looked_at)(picture)
    np.testing.assert_array_equal(painted, np.where(looked_at[:, :, None], picture, 127))


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (np.zeros((220, 38), np.uint8), "hides all of the region"),
        (np.full((220, 39), 255, np.uint8), r"expected U8 \(220, 38\)"),
        (np.full((220, 38), 255, np.int32), r"expected U8 \(220, 38\)"),
    ],
)
def test_a_tensor_that_is_no_mask_of_the_region_is_refused(
    engine: Path, tmp_path: Path, bits: NDArray[np.generic], message: str
) -> None:
    bundle = bundles.read(engine)
    with pytest.raises(BundleError, match=message):
        bundles.write(tmp_path / "x.lad", bundle.manifest, {**bundle.tensors, "mask/looked_at": bits})


def test_a_mask_needs_frames_of_one_size(engine: Path, tmp_path: Path) -> None:
    bundle = bundles.read(engine)
    any_size = replace(bundle.manifest.contract, roi=None, width=None, height=None)
    with pytest.raises(BundleError, match=r"'mask' needs 'contract\.roi' or the size of the frames"):
        bundles.write(tmp_path / "x.lad", replace(bundle.manifest, contract=any_size), bundle.tensors)


def test_info_says_how_much_is_hidden(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(engine)]) == 0
    assert "inspected: x 9, y 8, 301×220 px, of which a mask hides 8%" in capsys.readouterr().out
