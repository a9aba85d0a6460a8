"""lad-edge run --roi: the engine's frame is a region of the camera's; what is found is told in pixels of the camera's frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import good_picture, spotted_picture

import lad_edge
from lad_edge import bundle as bundles
from lad_edge.cli import main
from lad_edge.errors import UsageError
from lad_edge.inspector import Inspector, Options
from lad_edge.values import Frame, Reason, Verdict

Show = pytest.CaptureFixture[str]
LEFT, TOP = 52, 36  # even: Python rounds halves to even


def seen_by_camera(part: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture of a part somewhere in a larger frame that is full of other things."""
    height, width = part.shape[:2]
    frame = np.random.default_rng(0).integers(0, 256, (height + 80, width + 90, 3)).astype(np.uint8)
    frame[TOP : TOP + height, LEFT : LEFT + width] = part
    return frame


def roi_of(part: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    return LEFT, TOP, part.shape[1], part.shape[0]


def run(engine: Path, source: Path, *words: object) -> int:
    return main(["run", "--engine", str(engine), "--source", str(source), *map(str, words)])


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """A folder with what the camera saw: a good part, a bad one, and a frame that is too small."""
    folder = tmp_path / "camera"
    folder.mkdir()
    for name, picture in (("1-good", good_picture(3)), ("2-bad", spotted_picture(3))):
        cv2.imwrite(str(folder / f"{name}.png"), seen_by_camera(picture))
    cv2.imwrite(str(folder / "3-small.png"), good_picture(3))
    return folder


@pytest.mark.parametrize("changes", [{}, {"roi": (8, 4, 48, 40)}])
def test_a_region_of_the_frame_is_judged_as_the_part_alone_would_be(
    make_bundle: Callable[..., Path], changes: dict[str, Any]
) -> None:
    engine, part = make_bundle(**changes), spotted_picture(3)
    with lad_edge.load(engine) as alone:
        expected = alone(part)
    with Inspector(bundles.read(engine), Options(roi=roi_of(part))) as inspector:
        found = inspector(seen_by_camera(part))
    assert found.score == expected.score
    assert found.roi_px == roi_of(part)
    assert expected.verdict is Verdict.NG
    assert [(region.x_px - LEFT, region.y_px - TOP, region.peak_x_px - LEFT) for region in found.regions] == [
        (region.x_px, region.y_px, region.peak_x_px) for region in expected.regions
    ]


def test_a_frame_that_is_smaller_than_the_region_is_a_fault(tiny_bundle: Path) -> None:
    part = good_picture(3)
    with Inspector(bundles.read(tiny_bundle), Options(roi=roi_of(part))) as inspector:
        result = inspector.inspect(Frame(1, "1", part, "bgr8", 0, 0))
    assert (result.verdict, result.reasons) == (Verdict.UNKNOWN, (Reason.FRAME_FORMAT,))
    assert f"{roi_of(part)} does not fit into {part.shape[1]}×{part.shape[0]} px" in result.detail


def test_what_was_judged_through_a_region_is_replayed_identically(
    tiny_bundle: Path, camera: Path, tmp_path: Path, capfd: Show
) -> None:
    roi = ",".join(map(str, roi_of(good_picture(3))))
    kept = tmp_path / "kept"
    assert (
        run(
            tiny_bundle, camera, "--roi", roi, "--out", f"images:{kept}?ok=1", "--overlays", tmp_path / "seen", "--json"
        )
        == 0
    )
    records: list[dict[str, Any]] = list(map(json.loads, capfd.readouterr().out.splitlines()))
    assert [record["verdict"] for record in records] == ["OK", "NG", "UNKNOWN"]
    assert all(record["roi_px"] == list(roi_of(good_picture(3))) for record in records)
    assert main(["replay", str(kept), "--engine", str(tiny_bundle), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["states"] == {"identical": 2, "not judged then": 1}


def test_a_region_of_another_size_than_the_engine_needs_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="gives the engine 50x40 px of each frame, it needs 64x48"):
        Inspector(bundles.read(tiny_bundle), Options(roi=(0, 0, 50, 40)))


def test_a_check_of_the_words_finds_it_too(tiny_bundle: Path, camera: Path, capfd: Show) -> None:
    assert run(tiny_bundle, camera, "--roi", "0,0,50,40", "--check") == 1
    assert "it needs 64x48" in capfd.readouterr().err
