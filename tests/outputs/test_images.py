"""The image saver on real disks: lossless, within its quota, oldest first out, and never in the way."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from outbox_samples import ORIGIN, RESULT, fill_disk, frame
from waiting import until

from lad_edge.outputs.address import parse
from lad_edge.outputs.images import ImageSaver, Selection, map_levels, open_images
from lad_edge.values import Result, Verdict

SMALL_DISK = "1m"

NOISE = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
MAP = np.random.default_rng(2).normal(0.0, 1.0, (8, 8)).astype(np.float32)
DAY = "2025-11-24"


def saver(
    folder: Path, ok_every: int = 0, quota_bytes: int = 10**9, min_free_bytes: int = 0, **selection: bool
) -> ImageSaver:
    return ImageSaver(folder, ORIGIN, Selection(ok_every, **selection), quota_bytes, min_free_bytes)


def save(target: ImageSaver, *some: Result, image: np.ndarray = NOISE, pixel_format: str = "bgr8") -> None:  # type: ignore[type-arg]
    """One after the other, so that none is skipped."""
    for result in some:
        done = handled(target) + 1
        target.write(replace(frame(image), pixel_format=pixel_format), result)
        until(lambda done=done: handled(target) == done)


def handled(target: ImageSaver) -> int:
    return target.health().saved + target.health().failed


def numbered(first: int, last: int, verdict: Verdict = Verdict.NG) -> list[Result]:
    return [replace(RESULT, seq=seq, verdict=verdict) for seq in range(first, last + 1)]


def test_picture_map_and_record_are_kept_exactly(tmp_path: Path) -> None:
    images = saver(tmp_path)
    save(images, replace(RESULT, anomaly_map=MAP))
    images.close()
    stem = tmp_path / "camera0" / DAY / "000000000001_NG"
    assert np.array_equal(cv2.imread(f"{stem}.png"), NOISE)
    record = json.loads(Path(f"{stem}.json").read_text())
    assert record["frame_sha256"] == hashlib.sha256(NOISE.tobytes()).hexdigest()
    level = cv2.imread(f"{stem}.map.png", cv2.IMREAD_UNCHANGED)
    read = record["map_low"] + (record["map_high"] - record["map_low"]) * (level / 65535)
    assert level.dtype == np.uint16
    assert np.abs(read - MAP).max() <= (record["map_high"] - record["map_low"]) / 65535


@pytest.mark.parametrize(("pixel_format", "image"), [("rgb8", NOISE[:, :, ::-1]), ("mono8", NOISE[:, :, 0])])
def test_colours_are_right_whatever_the_camera_delivers(tmp_path: Path, pixel_format: str, image: np.ndarray) -> None:  # type: ignore[type-arg]
    images = saver(tmp_path)
    save(images, RESULT, image=image, pixel_format=pixel_format)
    images.close()
    read = cv2.imread(str(tmp_path / "camera0" / DAY / "000000000001_NG.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read, NOISE if pixel_format == "rgb8" else image)


def test_rows_that_lost_their_geometry_do_not_end_the_thread_that_saves(tmp_path: Path) -> None:
    images = saver(tmp_path)
    save(images, numbered(1, 1)[0], image=NOISE.reshape(-1), pixel_format="rgb8")
    save(images, numbered(2, 2)[0])
    images.close()
    assert (images.health().saved, images.health().failed) == (2, 0)


def test_ng_and_unknown_are_kept_and_one_ok_in_three(tmp_path: Path) -> None:
    images = saver(tmp_path, ok_every=3)
    for result in (*numbered(1, 1), *numbered(2, 2, Verdict.UNKNOWN)):
        save(images, result)
    for result in numbered(3, 9, Verdict.OK):
        images.write(frame(NOISE), result)
    images.write(frame(None), RESULT)  # a dropped part has no picture
    images.close()
    names = sorted(path.stem for path in (tmp_path / "camera0" / DAY).glob("*.png"))
    assert names == ["000000000001_NG", "000000000002_UNKNOWN", "000000000005_OK", "000000000008_OK"]


def test_a_map_that_is_not_finite_shows_as_the_highest_level() -> None:
    level, low, high = map_levels(np.array([[np.nan, 1.0], [np.inf, 3.0]], np.float32))
    assert level.tolist() == [[65535, 0], [65535, 65535]]
    assert (low, high) == (1.0, 3.0)
    assert map_levels(np.full((2, 2), np.nan, np.float32))[0].min() == 65535


def test_the_oldest_pictures_go_when_the_quota_is_reached_over_restarts_too(tmp_path: Path) -> None:
    images = saver(tmp_path)
    save(images, *numbered(1, 3))
    size = images.health().used_bytes // 3
    images.close()
    images = saver(tmp_path, quota_bytes=4 * size + size // 2)
    assert images.next_seq == 4
    save(images, replace(numbered(4, 4)[0], utc_ns=0), *numbered(5, 7))  # a wall clock that jumps changes no order
    images.close()
    kept = sorted(int(path.name[:12]) for path in tmp_path.rglob("*.json"))
    assert kept == [4, 5, 6, 7]
    assert images.health().deleted == 3
    assert images.health().used_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.*") if path.is_file())


def test_pictures_that_come_too_fast_are_skipped_and_counted_and_the_line_does_not_wait(tmp_path: Path) -> None:
    images = saver(tmp_path)
    large = np.zeros((2000, 2000, 3), np.uint8)
    for result in numbered(1, 60):
        images.write(frame(large), result)
    images.close()
    health = images.health()
    assert health.skipped > 0
    assert health.saved + health.skipped == 60
    assert len(list(tmp_path.rglob("*.json"))) == health.saved


def test_a_full_disk_stops_pictures_and_not_the_line_and_leaves_nothing_half_written(small_disk: Path) -> None:
    images = saver(small_disk)
    save(images, *numbered(1, 2))
    fill_disk(small_disk / "ballast")
    save(images, *numbered(3, 4))
    assert images.health().failed == 2
    assert images.health().codes == ("DISK_LOW",)
    (small_disk / "ballast").unlink()
    save(images, *numbered(5, 5))
    images.close()
    assert images.health().codes == ()
    assert {path.name[:12] for path in small_disk.rglob("*.*") if path.is_file()} == {
        f"{seq:012d}" for seq in (1, 2, 5)
    }


def test_space_that_belongs_to_others_is_left_to_them(tmp_path: Path) -> None:
    images = saver(tmp_path, min_free_bytes=1 << 60)
    save(images, RESULT)
    assert "1152921504607 MB are left to others (min-free)" in images.health().detail
    images.close()


def test_a_camera_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    images = ImageSaver(tmp_path / "in", replace(ORIGIN, camera_id="../../out"), Selection(), 10**9, 0)
    save(images, RESULT)
    images.close()
    assert len(list((tmp_path / "in").rglob("*.png"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_options_of_the_address_are_taken(tmp_path: Path) -> None:
    images = open_images(parse(f"images:{tmp_path}?ok=7&maps=no&quota=2GB&min-free=5MB"), ORIGIN)
    assert (images.selection, images.quota_bytes, images.min_free_bytes) == (Selection(7, False), 2 * 10**9, 5 * 10**6)
    save(images, replace(RESULT, anomaly_map=MAP))
    images.close()
    assert not list(tmp_path.rglob("*.map.png"))
