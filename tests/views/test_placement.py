"""Where a part lies, against the mean picture of the good ones."""

from __future__ import annotations

import numpy as np
import pytest
from kits import moved, tray

from lad_edge.errors import EngineError
from lad_edge.views import Placement, small_grey


@pytest.fixture(scope="module")
def placement() -> Placement:
    small = [small_grey(tray(index)) for index in range(12)]
    return Placement(np.mean(small, axis=0, dtype=np.float32))


@pytest.mark.parametrize(("right", "down"), [(0.03, 0.0), (-0.05, 0.02), (0.1, -0.08), (0.0, 0.15)])
def test_the_shift_of_a_part_it_never_saw_is_found(placement: Placement, right: float, down: float) -> None:
    for index in range(4):
        before = placement(small_grey(tray(index, "test/good")))
        after = placement(small_grey(moved(tray(index, "test/good"), right, down)))
        assert after.x - before.x == pytest.approx(right, abs=0.008)
        assert after.y - before.y == pytest.approx(down, abs=0.008)


def test_light_does_not_move_a_part(placement: Placement) -> None:
    shifted = moved(tray(0, "test/good"), 0.04, -0.03)
    assert placement(small_grey((shifted * 0.4).astype(np.uint8))) == pytest.approx(
        placement(small_grey(shifted)), abs=0.004
    )


def test_a_grey_picture_lies_nowhere_in_particular(placement: Placement) -> None:
    assert placement(np.full((96, 96), 90, np.uint8)) == (0, 0)


def test_a_mean_picture_of_another_version_is_refused() -> None:
    with pytest.raises(EngineError, match="made by another version"):
        Placement(np.zeros((64, 64), np.float32))
