from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lad_edge.kernels import LabelledRegion, label_regions, reference
from lad_edge.values import Region


def drawing(*rows: str) -> np.ndarray:
    """Digits are values, dots are 0."""
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows], np.float32)


def test_diagonal_neighbours_are_one_region() -> None:
    found = label_regions(drawing("1..", ".2.", "..1"), 0.5)
    assert found == [LabelledRegion(0, 0, 3, 3, 3, 2.0, 1, 1)]


def test_arms_that_meet_late_are_one_region() -> None:
    spiral = drawing("1.1.1.3", "1.1.1.1", "1.111.1", "1.1...1", "1111111")
    assert label_regions(spiral, 0.5) == [LabelledRegion(0, 0, 7, 5, 23, 3.0, 6, 0)]


def test_regions_come_in_order_of_their_peaks_and_ties_in_reading_order() -> None:
    found = label_regions(drawing("2...2", ".....", "5...."), 0.5)
    assert [(r.peak, r.peak_x_px, r.peak_y_px) for r in found] == [(5, 0, 2), (2, 0, 0), (2, 4, 0)]


def test_threshold_is_strict_and_exact_in_float64() -> None:
    value = np.full((1, 1), 0.1, np.float32)  # 0.1f is a little more than 0.1
    assert len(label_regions(value, 0.1)) == 1
    assert label_regions(value, float(value[0, 0])) == []
    assert len(label_regions(value, np.nextafter(float(value[0, 0]), 0))) == 1
    assert label_regions(value, np.nextafter(float(value[0, 0]), 1)) == []


def test_first_pixel_with_the_largest_value_is_the_peak() -> None:
    found = label_regions(drawing("1.7", "111", "7.."), 0.5)
    assert found == [LabelledRegion(0, 0, 3, 3, 6, 7.0, 2, 0)]


def test_small_regions_are_left_out() -> None:
    assert [r.area_px for r in label_regions(drawing("1.22", "..22"), 0.5, min_area_px=2)] == [4]


def test_fields_are_those_of_the_value_type() -> None:
    row = label_regions(drawing(".3"), 1)[0]
    assert Region(*row) == Region(**row._asdict())


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 140), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_equals_flood_fill(width: int, height: int, seed: int, threshold: float) -> None:
    levels = np.random.default_rng(seed).integers(0, 8, (height, width)).astype(np.float32) / 7
    assert label_regions(levels, threshold) == reference.label_regions(levels, threshold)


@pytest.mark.parametrize("side", [1, 15, 16, 17, 31, 33, 64, 65, 97])
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.95])
def test_equals_flood_fill_for_odd_sizes(side: int, threshold: float) -> None:
    noise = np.random.default_rng(side).random((side, 128 - side), np.float32)
    assert label_regions(noise, threshold, min_area_px=2) == reference.label_regions(noise, threshold, min_area_px=2)


def test_nothing_above_gives_an_empty_list() -> None:
    assert label_regions(np.zeros((100, 200), np.float32), 0.0) == []
    assert label_regions(np.zeros((0, 5), np.float32), 0.0) == []


def test_read_only_maps_are_fine() -> None:
    fixed = drawing("1.")
    fixed.flags.writeable = False
    assert len(label_regions(fixed, 0.5)) == 1


@pytest.mark.parametrize("position", [(0, 0), (0, 63), (0, 64), (4, 96)])
def test_nan_is_refused_with_its_place(position: tuple[int, int]) -> None:
    anomaly_map = np.zeros((5, 97), np.float32)
    anomaly_map[position] = np.nan
    with pytest.raises(ValueError, match=f"NaN at y={position[0]}, x={position[1]}"):
        label_regions(anomaly_map, 0.5)


def test_infinity_is_a_peak() -> None:
    assert label_regions(np.array([[0, np.inf]], np.float32), 0.5)[0].peak == np.inf


@pytest.mark.parametrize(
    ("anomaly_map", "threshold", "error"),
    [
        (np.zeros((3, 3)), 0.5, TypeError),
        (np.zeros((3, 6), np.float32)[:, ::2], 0.5, TypeError),
        ([[1.0]], 0.5, TypeError),
        (np.zeros(3, np.float32), 0.5, ValueError),
        (np.zeros((3, 3), np.float32), float("nan"), ValueError),
    ],
)
def test_wrong_input_is_refused(anomaly_map: np.ndarray, threshold: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        label_regions(anomaly_map, threshold)
