"""The picture gate: limits from good kit trays pass new ones, and name what befell a camera, a lamp or a fixture."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from kits import Picture, moved, tray, under_noise

from lad_edge.values import Reason
from lad_edge.views import GoodViews, PictureGate


@pytest.fixture(scope="module")
def good() -> GoodViews:
    views = GoodViews()
    for index in range(25):
        views.add(tray(index))
    return views


@pytest.fixture(scope="module")
def gate(good: GoodViews) -> PictureGate:
    fitted = good.fit()
    assert fitted is not None
    return PictureGate(*fitted)


def reasons(gate: PictureGate, picture: Picture) -> set[Reason]:
    return {reason for reason, _ in gate.findings(picture)}


def test_new_good_parts_pass(gate: PictureGate) -> None:
    assert [gate.findings(tray(index, "test/good")) for index in range(20)] == [[]] * 20


@pytest.mark.parametrize(
    ("expected", "spoil"),
    [
        (Reason.FRAME_DARK, lambda picture: (picture * 0.5).astype(np.uint8)),
        (Reason.FRAME_SATURATED, lambda picture: np.clip(picture * 1.7, 0, 255).astype(np.uint8)),
        (Reason.FRAME_FLAT, lambda picture: (picture * 0.3 + 130).astype(np.uint8)),
        (Reason.FRAME_BLURRED, lambda picture: under_noise(cv2.GaussianBlur(picture, (0, 0), 2.5))),
        (Reason.PART_MISPLACED, lambda picture: moved(picture, 0.08, 0.0)),
        (Reason.PART_MISPLACED, lambda picture: moved(picture, -0.02, -0.15)),
    ],
)
def test_what_befalls_a_camera_is_named(
    gate: PictureGate, expected: Reason, spoil: Callable[[Picture], Picture]
) -> None:
    named = [expected in reasons(gate, spoil(tray(index, "test/good"))) for index in range(8)]
    assert sum(named) >= 7


def test_a_weaker_lamp_is_dark_and_not_blurred(gate: PictureGate) -> None:
    assert reasons(gate, (tray(0, "test/good") * 0.5).astype(np.uint8)) == {Reason.FRAME_DARK}


def test_the_words_say_what_was_measured_the_limit_and_where_to_look(gate: PictureGate) -> None:
    ((_, words),) = gate.findings((tray(0, "test/good") * 0.5).astype(np.uint8))
    assert words.startswith("the brightest 5 % of the pixels reach grey ")
    assert f"at least {gate.gates.brightness:.0f} are needed: look at lamp" in words


def test_fewer_than_five_parts_say_nothing() -> None:
    views = GoodViews()
    for index in range(4):
        views.add(tray(index))
    assert views.fit() is None


def test_parts_that_lie_anywhere_have_no_limit_for_their_place() -> None:
    views, rng = GoodViews(), np.random.default_rng(0)
    for index in range(12):
        views.add(moved(tray(index), *rng.uniform(-0.2, 0.2, 2)))
    fitted = views.fit()
    assert fitted is not None
    assert fitted.gates.shift is None


@pytest.mark.parametrize("n", [5, 10, 25, 100])
def test_normal_values_are_hardly_ever_refused(n: int) -> None:
    from lad_edge.views.limits import _beyond

    rng = np.random.default_rng(n)
    refused = [rng.normal(size=2000) > _beyond(rng.normal(size=n), 0.0) for _ in range(400)]
    assert np.mean(refused) < {5: 0.008, 10: 0.004, 25: 0.0015, 100: 0.0002}[n]
