"""What teach says of pictures while they are shown, on the pictures of a camera over kit trays."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from kits import Picture, moved, tray, under_noise

from lad_edge.teaching.quality import hints, measure, same_view

BEFORE = range(8)


def said(picture: Picture) -> str:
    return "; ".join(hints(measure(picture), [measure(tray(index)) for index in BEFORE]))


def test_good_trays_get_no_hint() -> None:
    assert [said(tray(index)) for index in range(8, 28)].count("") >= 19


@pytest.mark.parametrize(
    ("word", "spoil"),
    [
        ("too dark", lambda picture: picture // 12),
        ("saturated", lambda picture: np.clip(picture * 1.7, 0, 255).astype(np.uint8)),
        ("blurred", lambda picture: under_noise(cv2.GaussianBlur(picture, (0, 0), 3))),
    ],
)
def test_what_is_wrong_is_said_of_most_spoilt_trays(word: str, spoil: Callable[[Picture], Picture]) -> None:
    assert sum(word in said(spoil(tray(index))) for index in range(8, 18)) >= 9


def test_the_tray_that_is_still_there_is_the_same_view_and_the_next_one_is_not() -> None:
    for index in range(6):
        assert same_view(tray(index), under_noise(tray(index)))
        assert not same_view(tray(index), moved(tray(index), 0.02, 0.0))
        assert not same_view(tray(index), tray(index + 1))
