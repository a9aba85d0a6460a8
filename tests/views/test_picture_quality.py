"""Numbers for light, contrast and focus."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from kits import tray

from lad_edge.views import measure


def test_sharpness_is_the_deviation_of_the_laplacian_in_units_of_the_brightness() -> None:
    picture = np.full((5, 5), 100, np.uint8)
    picture[2, 2] = 200
    # of a point, on the rows and columns that have all neighbours: -4 on it, 1 on its four neighbours, mean 0
    found = measure(picture)
    assert found.sharpness == pytest.approx(100 * np.sqrt((4**2 + 4) / 9) / found.brightness)


def test_brightness_is_what_the_brightest_twentieth_reaches() -> None:
    picture = np.full((96, 96), 50, np.uint8)
    picture[:5] = 180  # 5 of 96 rows: a little more than a twentieth
    assert measure(picture).brightness == 180
    picture[4] = 50
    assert measure(picture).brightness == 50


def test_mean_and_share_of_white_are_those_of_the_pixels() -> None:
    picture = np.full((96, 96), 100, np.uint8)
    picture[:24] = 250
    found = measure(picture)
    assert found.saturated == pytest.approx(0.25)
    assert found.mean_grey == pytest.approx(137.5)
    assert found.contrast == pytest.approx(150 * np.sqrt(0.25 * 0.75) / 250)


def test_a_weaker_lamp_changes_the_brightness_alone() -> None:
    bright, dim = measure(tray(0)), measure((tray(0) * 0.6).astype(np.uint8))
    assert dim.brightness == pytest.approx(0.6 * bright.brightness, rel=0.02)
    assert dim.contrast == pytest.approx(bright.contrast, rel=0.03)
    assert dim.sharpness == pytest.approx(bright.sharpness, rel=0.05)


def test_colour_is_measured_as_its_grey() -> None:
    grey = cv2.cvtColor(tray(1), cv2.COLOR_BGR2GRAY)
    assert measure(np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)) == measure(np.asarray(grey, np.uint8))


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (40, 2, 3), (3, 3)])
def test_tiny_pictures_have_numbers_too(shape: tuple[int, ...]) -> None:
    assert np.isfinite(measure(np.full(shape, 9, np.uint8))).all()
