"""Hints on light and focus, and whether a part is still the one of the last picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lad_edge.teaching.quality import hints, measure, same_view

SHAPE = (120, 160)


def part(seed: int = 0, shift_px: int = 0, noise: float = 2.0) -> NDArray[np.uint8]:
    """A grey plate with a disc and a bar under sensor noise."""
    picture = np.full(SHAPE, 90, np.uint8)
    cv2.circle(picture, (60 + shift_px, 60), 25, 170, -1)
    cv2.rectangle(picture, (100 + shift_px, 30), (120 + shift_px, 90), 40, -1)
    noisy = picture + np.random.default_rng(seed).normal(0, noise, SHAPE)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def test_a_good_picture_needs_no_hint() -> None:
    before = [measure(part(seed)) for seed in range(5)]
    assert hints(measure(part(9)), before) == []


def test_darkness_is_named_with_its_measure() -> None:
    (hint,) = hints(measure(part() // 20), [])
    assert hint == "too dark (mean grey 4 of 255)"


def test_saturation_is_named_with_its_share() -> None:
    picture = part()
    picture[:30] = 255
    (hint,) = hints(measure(picture), [])
    assert hint == "saturated (25% of the pixels are white)"


def test_blur_is_told_by_the_pictures_before() -> None:
    blurred = measure(cv2.GaussianBlur(part(9), (0, 0), 2))
    before = [measure(part(seed)) for seed in range(3)]
    assert hints(blurred, before)[0].startswith("blurred (")
    assert hints(blurred, before[:2]) == []  # two pictures do not say what is usual
    assert hints(blurred, [blurred] * 3) == []


def test_noise_and_flicker_are_the_same_view_and_another_place_is_not() -> None:
    first = part(0)
    assert same_view(first, part(1))
    assert same_view(first, np.clip(part(1).astype(int) + 12, 0, 255).astype(np.uint8))
    assert not same_view(first, part(1, shift_px=2))


def test_pictures_of_another_size_are_another_view() -> None:
    assert not same_view(part(), part()[:-1])
