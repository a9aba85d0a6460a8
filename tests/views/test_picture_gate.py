"""A taught engine refuses pictures of other light, focus and place: UNKNOWN with its reason, whatever the score says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kits import moved, tray

import lad_edge
from lad_edge import bundle as bundles
from lad_edge.bundle import Bundle
from lad_edge.cli import main
from lad_edge.errors import BundleError
from lad_edge.inspector import Inspector, Options
from lad_edge.teaching import Lesson
from lad_edge.teaching import Options as Lessons
from lad_edge.values import Reason, Verdict

Change = Callable[[Bundle], Bundle]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("taught") / "tray.lad"
    with Lesson(Lessons(precision="f32", threads=1)) as lesson:
        for index in range(20):
            lesson.show(f"{index}.png", tray(index), "bgr8")
        lesson.finish().write(path)
    return path


def test_a_dark_picture_is_unknown_and_its_score_is_recorded(engine: Path) -> None:
    with lad_edge.load(engine, threads=1) as inspector:
        result = inspector((tray(0) * 0.4).astype(np.uint8))
    assert result.verdict is Verdict.UNKNOWN
    assert Reason.FRAME_DARK in result.reasons
    assert "look at lamp" in result.detail
    assert result.score is not None


def test_a_part_out_of_its_place_is_unknown(engine: Path) -> None:
    with lad_edge.load(engine, threads=1) as inspector:
        result = inspector(moved(tray(0), 0.1, 0.0))
    assert (result.verdict, result.reasons) == (Verdict.UNKNOWN, (Reason.PART_MISPLACED,))


def test_good_pictures_are_judged_by_their_score(engine: Path) -> None:
    with lad_edge.load(engine, threads=1) as inspector:
        found = [inspector(tray(index, "test/good")) for index in range(10)]
    assert all(result.verdict is not Verdict.UNKNOWN for result in found)


def test_without_gates_the_score_alone_decides(engine: Path) -> None:
    with Inspector(bundles.read(engine), Options(threads=1, gates=False)) as inspector:
        assert inspector((tray(0) * 0.4).astype(np.uint8)).verdict is not Verdict.UNKNOWN


def test_an_engine_can_be_taught_without_gates(tmp_path: Path) -> None:
    with Lesson(Lessons(precision="f32", threads=1, gates=False)) as lesson:
        for index in range(6):
            lesson.show(f"{index}.png", tray(index), "bgr8")
        lesson.finish().write(tmp_path / "tray.lad")
    manifest = bundles.read(tmp_path / "tray.lad").manifest
    assert manifest.gates is None
    assert "gates" not in manifest.to_json()


def test_parts_that_are_added_move_the_limits(engine: Path) -> None:
    before = bundles.read(engine)
    with Lesson(Lessons(threads=1), before) as lesson:
        for index in range(3):
            lesson.show(f"dim-{index}.png", (tray(40 + index) * 0.6).astype(np.uint8), "bgr8")
        gates = lesson.finish().manifest.gates
    assert gates is not None
    assert before.manifest.gates is not None
    assert gates.n == 23
    assert gates.brightness < 0.7 * before.manifest.gates.brightness


def test_info_shows_the_limits(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(engine)]) == 0
    shown = capsys.readouterr().out
    assert "pictures that are not judged" in shown
    assert "beyond all n = 20 good parts" in shown


def _other_mean(bundle: Bundle) -> Bundle:
    return replace(bundle, tensors={**bundle.tensors, "views/mean": np.zeros((3, 4), np.float32)})


def _lost_tensor(bundle: Bundle) -> Bundle:
    return replace(bundle, tensors={name: t for name, t in bundle.tensors.items() if name != "views/measured"})


def _endless(bundle: Bundle) -> Bundle:
    return replace(
        bundle, tensors={**bundle.tensors, "views/measured": np.full_like(bundle.tensors["views/measured"], np.nan)}
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_mean, "'gates.mean': expected finite F32"),
        (_lost_tensor, "'gates.measured' names the tensor 'views/measured', which is not in the bundle"),
        (_endless, "'gates.measured': expected finite F32"),
    ],
)
def test_tensors_that_do_not_fit_the_gates_are_refused(
    engine: Path, tmp_path: Path, change: Change, words: str
) -> None:
    spoilt = change(bundles.read(engine))
    with pytest.raises(BundleError, match=words):
        bundles.write(tmp_path / "x.lad", spoilt.manifest, spoilt.tensors)
