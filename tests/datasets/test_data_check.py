"""Each thing that `data check` promises to find, planted; and that it finds nothing where there is nothing."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
from dataset_samples import mask, photo, save

from lad_edge.datasets import open_dataset
from lad_edge.datasets.check import check
from lad_edge.datasets.near import near_groups, thumbnail
from lad_edge.errors import DataError


def findings(root):
    return {(finding.kind, finding.paths) for finding in check(open_dataset(root)).findings}


@pytest.mark.parametrize("layout", ["folder", "mvtec_ad", "mvtec_loco", "mvtec_3d"])
def test_sound_sets_have_no_findings(layout, request):
    report = check(open_dataset(request.getfixturevalue(layout)))
    assert report.findings == ()
    assert report.layout == layout
    assert report.sizes == {
        "96x64 bgr8": sum(report.images[s][label] for s in report.images for label in report.images[s])
    }


def test_equal_pixels_in_another_file_format_are_a_duplicate(folder):
    save(folder / "copy.bmp", photo(3))
    assert findings(folder) == {("duplicate", ("03.png", "copy.bmp"))}


@pytest.mark.parametrize("again", ["noise", "light", "jpeg"])
def test_one_part_taken_twice_is_near_identical(folder, again):
    image = photo(4).astype(np.float32)
    taken = {
        "noise": image + np.random.default_rng(1).normal(0, 3, image.shape),
        "light": image * 1.02 + 2,
        "jpeg": cv2.imdecode(cv2.imencode(".jpg", photo(4), [cv2.IMWRITE_JPEG_QUALITY, 98])[1], cv2.IMREAD_COLOR),
    }[again]
    save(folder / "again.png", np.clip(taken, 0, 255).astype(np.uint8))
    assert findings(folder) == {("near_identical", ("04.png", "again.png"))}


def test_neighbours_of_neighbours_are_one_group():
    thumbnails = np.zeros((5, 32, 32, 3), np.float32)
    thumbnails[:, 0, 0, 0] = [0, 6, 12, 100, 106]
    assert near_groups(thumbnails) == [[0, 1, 2], [3, 4]]
    assert near_groups(thumbnails[:0]) == []


def test_a_small_but_clear_change_is_another_scene():
    image = photo(5, 320, 240)
    changed = image.copy()
    changed[100:130, 150:180] = 255 - changed[100:130, 150:180]
    assert near_groups(np.stack([thumbnail(image), thumbnail(changed)])) == []


def test_thumbnails_of_all_depths_agree():
    image = photo(6)
    wide = thumbnail(image.astype(np.uint16) * 257)
    np.testing.assert_allclose(wide, thumbnail(image), atol=1.0)
    assert thumbnail(image[..., 0]).shape == thumbnail(np.dstack([image, image[..., :1]])).shape == (32, 32, 3)


def test_a_training_image_in_test_is_a_leak(mvtec_ad):
    save(mvtec_ad / "test" / "good" / "001.png", photo(2))
    assert findings(mvtec_ad) == {("leak", ("train/good/002.png", "test/good/001.png"))}


def test_a_good_image_that_is_also_bad_is_a_label_conflict(mvtec_ad):
    save(mvtec_ad / "test" / "good" / "001.png", photo(30))
    assert findings(mvtec_ad) == {("label_conflict", ("test/good/001.png", "test/scratch/000.png"))}


def test_other_sizes_and_kinds_of_pixels_are_named(folder):
    save(folder / "wide.png", photo(40, 128, 64))
    save(folder / "grey.png", photo(41)[..., 0])
    save(folder / "deep.png", photo(42)[..., 0].astype(np.uint16) * 257)
    kinds = {kind: paths for kind, paths in findings(folder) if kind != "mixed_format"}
    assert kinds == {"mixed_size": ("wide.png",), "pixel_format": ("deep.png",)}
    mixed = {paths for kind, paths in findings(folder) if kind == "mixed_format"}
    assert mixed == {("grey.png",), ("deep.png",)}


def test_truncated_files_are_named_and_the_rest_is_still_checked(folder):
    whole = (folder / "05.png").read_bytes()
    (folder / "05.png").write_bytes(whole[: len(whole) // 2])
    save(folder / "copy.png", photo(3))
    assert findings(folder) == {("unreadable", ("05.png",)), ("duplicate", ("03.png", "copy.png"))}


def test_only_unreadable_files_are_still_a_report(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    report = check(open_dataset(tmp_path))
    assert [finding.kind for finding in report.findings] == ["unreadable", "unreadable"]


def test_blurred_dark_and_bright_images_stand_out(folder):
    save(folder / "blurred.png", cv2.GaussianBlur(photo(50), (0, 0), 2.0))
    save(folder / "dark.png", photo(51) // 8)
    kinds = dict(findings(folder))
    assert kinds["blurred"] == ("blurred.png", "dark.png")  # a dark picture has no contrast either
    assert kinds["dark"] == ("dark.png",)
    for path in sorted(folder.iterdir()):
        save(path, cv2.imread(str(path)) // 5)
    save(folder / "blurred.png", photo(52))
    assert ("bright", ("blurred.png",)) in findings(folder)


def test_wrong_masks_are_named(mvtec_ad):
    truth = mvtec_ad / "ground_truth" / "scratch"
    save(truth / "000_mask.png", mask(0))
    save(truth / "001_mask.png", mask(width=50))
    report = check(open_dataset(mvtec_ad))
    assert [(f.kind, f.paths) for f in report.findings] == [
        ("mask", ("test/scratch/000.png",)),
        ("mask", ("test/scratch/001.png",)),
    ]
    assert "empty" in report.findings[0].message
    assert "(64, 50)" in report.findings[1].message


def test_notes_say_what_validation_can_carry_and_what_is_not_read(mvtec_loco):
    shutil.copy(mvtec_loco / "train" / "good" / "000.png", mvtec_loco / "train" / "good" / "extra.webp")
    report = check(open_dataset(mvtec_loco))
    assert report.findings == ()
    assert report.notes[0].startswith("1 validation images, which carry 50.0% at best")
    assert "needs 99" in report.notes[0]
    assert "1 .webp" in report.notes[1]


def test_enough_validation_images_need_no_note(tmp_path):
    for i in range(2):
        save(tmp_path / "train" / "good" / f"{i}.png", photo(i, 24, 16))
    for i in range(99):
        save(tmp_path / "validation" / "good" / f"{i}.png", photo(100 + i, 24, 16))
    assert check(open_dataset(tmp_path)).notes == ()


def test_progress_is_told_to_its_end(folder):
    told = []
    check(open_dataset(folder), progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 12) for i in range(1, 13)]


def test_one_image_is_too_few(tmp_path):
    save(tmp_path / "a.png", photo(1))
    with pytest.raises(DataError, match="at least 2 images, found 1"):
        check(open_dataset(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mvtec_loco/juice_bottle", "mvtec_3d/tire"])
def test_real_stations_have_no_findings(shared, name):
    assert check(open_dataset(shared / name)).findings == ()
