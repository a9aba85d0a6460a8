"""`lad-edge compare` of the tiny engine with itself at another threshold, and with one whose answer is known to differ."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

from lad_edge import bundle as bundles
from lad_edge.bundle import replace_threshold
from lad_edge.cli import main

Show = pytest.CaptureFixture[str]
GOOD, WHITE, BLUE = 4, 3, 3


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Good pictures, white spots (structural) and blue ones (logical)."""
    root = tmp_path / "parts"
    pictures = {
        "train/good": [tiny.good_picture(0)],
        "test/good": [tiny.good_picture(10 + i) for i in range(GOOD)],
        "test/structural_anomalies": [tiny.spotted_picture(20 + i) for i in range(WHITE)],
        "test/logical_anomalies": [tiny.spotted_picture(30 + i, tiny.BLUE_SPOT) for i in range(BLUE)],
    }
    for folder, images in pictures.items():
        (root / folder).mkdir(parents=True)
        for index, image in enumerate(images):
            assert cv2.imwrite(str(root / folder / f"{index:03}.png"), image)
    return root


@pytest.fixture
def deaf(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny engine with a threshold that nothing reaches."""
    path, known = tmp_path / "deaf.lad", bundles.read(tiny_bundle).manifest.calibrations["f32"]
    replace_threshold(tiny_bundle, path, {"f32": (1e5, replace(known.policy, name="fixed", value=1e5))}, {})
    return path


def compare(*words: object) -> int:
    return main(["compare", *map(str, words), "--frames", "3", "--warmup", "1"])


def document_of(capfd: Show, *words: object) -> dict[str, object]:
    assert compare(*words, "--json") == 0
    return json.loads(capfd.readouterr().out)  # type: ignore[no-any-return]


def test_equal_scores_at_another_threshold_differ_in_verdicts_alone(
    tiny_bundle: Path, deaf: Path, parts: Path, capfd: Show
) -> None:
    found = document_of(capfd, tiny_bundle, deaf, parts)
    assert found["auroc_difference"] == {
        name: {"value": 0.0, "interval": None} for name in ("logical_anomalies", "structural_anomalies", "all")
    }
    first, second = found["engines"]
    assert (first["image_auroc"], first["misses"], first["false_rejects"]) == (1.0, "0 of 6", "0 of 4")
    assert (second["image_auroc"], second["misses"], second["false_rejects"]) == (1.0, "6 of 6", "0 of 4")
    assert found["right"] == {"both": GOOD, "first_alone": WHITE + BLUE, "second_alone": 0, "neither": 0}
    assert [one["verdicts"] for one in found["disagreements"]] == [["NG", "OK"]] * (WHITE + BLUE)
    assert {one["right"][0] for one in found["disagreements"]} == {"A"}


def test_each_engine_is_timed_in_its_turn(tiny_bundle: Path, deaf: Path, parts: Path, capfd: Show) -> None:
    found = document_of(capfd, tiny_bundle, deaf, parts, "--threads", 1)
    assert found["latency"]["frames"] == 3
    for figures, engine in zip(found["latency"]["total_us"], found["engines"], strict=True):
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"] <= figures["max"]
        assert (engine["precision"], engine["threads"]) == ("f32", 1)


def test_pictures_show_each_part_of_another_verdict_with_both_maps(
    tiny_bundle: Path, deaf: Path, parts: Path, tmp_path: Path, capfd: Show
) -> None:
    out = tmp_path / "out"
    found = document_of(capfd, tiny_bundle, deaf, parts, "--out", out)
    assert json.loads((out / "comparison.json").read_text()) == found
    sheet = cv2.imread(str(out / "disagreements-1.png"))
    assert found["pictures"] == [str(out / "disagreements-1.png")]
    tile_px = sheet.shape[1] // 6
    plain, heated, pale = (sheet[:200, n * tile_px : (n + 1) * tile_px].astype(int) for n in range(3))
    warm = [int((part[..., 2] - part[..., 0]).max()) for part in (plain, heated, pale)]
    assert warm[1] > warm[0] + 60  # red where the first engine fired
    assert warm[2] < warm[1] - 60


def test_lines_for_a_person_name_what_differs(tiny_bundle: Path, deaf: Path, parts: Path, capfd: Show) -> None:
    assert compare(tiny_bundle, deaf, parts) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "parts: 4 good, 3 logical_anomalies, 3 structural_anomalies"
    assert any(line.split() == ["misses", "0", "of", "6", "6", "of", "6"] for line in lines)
    assert any(
        line.startswith("verdicts differ on 6 of 10 images: A alone is right on 6, B alone on 0") for line in lines
    )
    assert sum("NG" in line and "OK" in line for line in lines) == 6


def test_without_bad_images_there_is_no_auroc_but_a_comparison(
    tiny_bundle: Path, deaf: Path, parts: Path, capfd: Show
) -> None:
    for label in ("logical_anomalies", "structural_anomalies"):
        (parts / "test" / label).rename(parts.parent / label)
    assert compare(tiny_bundle, deaf, parts, "--layout", "mvtec_ad") == 0
    shown = capfd.readouterr().out
    assert "no image AUROC: it needs good and anomalous test images" in shown
    assert "verdicts differ on 0 of 4 images" in shown


def test_an_image_that_cannot_be_read_is_named_and_left_out(
    tiny_bundle: Path, deaf: Path, parts: Path, capfd: Show
) -> None:
    torn = parts / "test" / "good" / "001.png"
    torn.write_bytes(torn.read_bytes()[:-200])
    found = document_of(capfd, tiny_bundle, deaf, parts)
    assert found["images"]["good"] == GOOD - 1
    assert len(found["left_out"]) == 1
    assert "good/001.png" in found["left_out"][0]


def test_an_image_of_another_size_is_left_out_with_the_reason(
    tiny_bundle: Path, deaf: Path, parts: Path, capfd: Show
) -> None:
    cv2.imwrite(str(parts / "test" / "good" / "001.png"), np.full((20, 20, 3), 128, np.uint8))
    found = document_of(capfd, tiny_bundle, deaf, parts)
    assert found["images"]["good"] == GOOD - 1
    assert "20×20" in found["left_out"][0]


def test_engines_for_other_frames_are_refused(
    tiny_bundle: Path, make_bundle: Callable[..., Path], parts: Path, capfd: Show
) -> None:
    assert compare(tiny_bundle, make_bundle(geometry=(32, 32)), parts) == 1
    assert "frames of 64x48 bgr8 and 32x32 bgr8: no image is for both" in capfd.readouterr().err
    assert compare(tiny_bundle, make_bundle(pixel_format="mono8"), parts) == 1
    assert "64x48 bgr8 and 64x48 mono8" in capfd.readouterr().err


def test_an_engine_for_any_size_goes_with_one_for_a_size(
    tiny_bundle: Path, make_bundle: Callable[..., Path], parts: Path, capfd: Show
) -> None:
    assert document_of(capfd, tiny_bundle, make_bundle(geometry=(None, None)), parts)["images"]["good"] == GOOD


def test_images_that_no_engine_can_judge_are_an_error_with_the_reason(
    make_bundle: Callable[..., Path], parts: Path, capfd: Show
) -> None:
    other = make_bundle(geometry=(32, 32))
    assert compare(other, other, parts) == 2
    assert "expected test images that both engines can judge" in (error := capfd.readouterr().err)
    assert "needs 32×32 px, came 64×48" in error


def test_a_folder_that_cannot_be_made_is_said_before_the_work(
    tiny_bundle: Path, deaf: Path, parts: Path, tmp_path: Path, capfd: Show
) -> None:
    (tmp_path / "file").touch()
    assert compare(tiny_bundle, deaf, parts, "--out", tmp_path / "file" / "out") == 6
    assert "cannot make the folder" in capfd.readouterr().err


def test_it_runs_on_a_box_without_the_training_extra(
    tiny_bundle: Path, deaf: Path, parts: Path, tmp_path: Path
) -> None:
    absent = "sys.modules.update(dict.fromkeys(['torch', 'onnx', 'matplotlib', 'tqdm']))"
    words = ["compare", *map(str, (tiny_bundle, deaf, parts)), "--frames", "1", "--out", str(tmp_path / "out")]
    program = f"import sys; {absent}; from lad_edge.cli import main; sys.exit(main({words}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "disagreements-1.png").is_file()
