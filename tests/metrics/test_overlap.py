"""PRO and sPRO areas against the slow and obvious way: a prediction for each threshold, a mean overlap, a trapezoid."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lad_edge.errors import DataError
from lad_edge.metrics import LIMITS, OverlapAreas, Region, auroc, components, overlap
from lad_edge.metrics.maps import UNSEEN, from_ordered_bits, ordered_bits, resize_map


def slow_areas(images, limits=LIMITS):
    """images: (map, mask, regions) each; every threshold, strict `>`, from nothing predicted to everything."""
    scores = np.unique(np.concatenate([full.ravel() for full, _, _ in images]))
    points = [curve_point(images, threshold) for threshold in [*scores[::-1], -np.inf]]
    assert points[0] == (0, 0)
    assert points[-1] == (1, pytest.approx(1))
    return {limit: trapezoid(points, limit) / limit for limit in limits}


def curve_point(images, threshold):
    good = np.concatenate([full[~mask] for full, mask, _ in images])
    overlaps = [
        min(np.sum(full.ravel()[region.pixels] > threshold) / region.saturation_px, 1)
        for full, _, regions in images
        for region in regions
    ]
    return np.mean(good > threshold), np.mean(overlaps)


def trapezoid(points, limit):
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area


def exact_areas(images, limits=LIMITS):
    collected = OverlapAreas()
    for full, mask, regions in images:
        collected.add(full, mask, {"it": regions})
    return collected.areas(limits)["it"]


def row(*values):
    return np.array([values], np.float32)


@st.composite
def image(draw, levels):
    """A map with few different scores, and up to three channels that may overlap, each with a saturation."""
    height, width = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    size = height * width
    values = draw(st.lists(st.sampled_from(levels), min_size=size, max_size=size))
    mask, regions = np.zeros(size, bool), []
    for _ in range(draw(st.integers(0, 3))):
        pixels = sorted(draw(st.sets(st.integers(1, size - 1), min_size=1)))  # pixel 0 stays good
        regions.append(Region(np.array(pixels), draw(st.integers(1, len(pixels)))))
        mask[pixels] = True
    return np.array(values, np.float32).reshape(height, width), mask.reshape(height, width), regions


@pytest.mark.parametrize("batch", [1, 7, 1 << 20])
@pytest.mark.parametrize("levels", [[0.5], [-1.0, -0.0, 0.0, 2.0], [float(v) for v in np.linspace(-3, 3, 97)]])
def test_areas_equal_a_loop_over_all_thresholds(monkeypatch, batch, levels):
    monkeypatch.setattr(overlap, "_BATCH", batch)

    @given(images=st.lists(image(levels), min_size=1, max_size=4), limit=st.floats(0.001, 1))
    def holds(images, limit):
        if any(regions for _, _, regions in images):
            limits = (*LIMITS, limit)
            assert exact_areas(images, limits) == pytest.approx(slow_areas(images, limits), abs=1e-12)

    holds()


def test_hand_checked_steps_slope_and_limit():
    mask = row(0, 0, 0, 0, 1, 1) > 0
    region = Region(np.array([4, 5]), 2)
    # The region is found by half at once, and whole after one of four good pixels.
    steps = exact_areas([(row(4, 2, 1, 0, 5, 3), mask, [region])])
    assert steps[1.0] == pytest.approx(0.25 * 0.5 + 0.75)
    assert steps[0.3] == pytest.approx((0.25 * 0.5 + 0.05) / 0.3)
    assert steps[0.05] == pytest.approx(0.5)
    # Its second pixel comes together with two good ones: from one half at 0 to one at 0.5.
    slope = exact_areas([(row(3, 3, 1, 0, 5, 3), mask, [region])])
    assert slope[1.0] == pytest.approx(0.5 * 0.75 + 0.5)
    assert slope[0.1] == pytest.approx(0.5 + 0.1 / 2)


def test_a_constant_map_has_half_the_limit():
    mask = np.zeros((6, 8), bool)
    mask[2:4, 2:5] = True
    areas = exact_areas([(np.full((6, 8), 0.25, np.float32), mask, components(mask))])
    assert areas == pytest.approx({limit: limit / 2 for limit in LIMITS})


def test_a_saturated_region_is_found_by_its_best_pixels():
    mask = row(1, 1, 1, 1, 0, 0) > 0
    scores = row(9, 8, 1, 1, 5, 5)
    pixels = np.flatnonzero(mask)
    assert exact_areas([(scores, mask, [Region(pixels, 2)])]) == pytest.approx(dict.fromkeys(LIMITS, 1))
    whole = exact_areas([(scores, mask, [Region(pixels, 4)])])
    assert whole == pytest.approx(dict.fromkeys(LIMITS, 0.5))


def test_a_small_region_weighs_as_much_as_a_large_one():
    mask = np.zeros((4, 40), bool)
    mask[0, 0], mask[2:, 5:] = True, True
    scores = np.zeros((4, 40), np.float32)
    scores[2:, 5:] = 1
    assert exact_areas([(scores, mask, components(mask))], [0.001])[0.001] == pytest.approx(0.5, abs=1e-3)


def test_one_region_over_all_defect_pixels_is_the_pixel_auroc():
    rng = np.random.default_rng(3)
    mask = rng.random((40, 50)) < 0.2
    scores = np.round(rng.normal(size=mask.shape) + mask, 1).astype(np.float32)
    marked = np.flatnonzero(mask)
    areas = exact_areas([(scores, mask, [Region(marked, len(marked))])])
    assert areas[1.0] == pytest.approx(auroc(scores[~mask], scores[mask]))


def test_curves_take_the_good_pixels_of_their_own_images():
    mask = row(1, 0, 0) > 0
    collected = OverlapAreas()
    region = [Region(np.array([0]), 1)]
    collected.add(row(5, 1, 1), mask, {"a": region, "both": region})
    collected.add(row(5, 6, 6), mask, {"b": region, "both": region})
    collected.add(row(0, 0, 0), mask & False, {"a": (), "b": (), "both": (), "without regions": ()})
    areas = {name: curve[1.0] for name, curve in collected.areas().items()}
    assert areas == pytest.approx({"a": 1, "b": 3 / 5, "both": 5 / 7})


def test_maps_are_resized_to_the_mask_or_placed_in_their_region_of_interest():
    rng = np.random.default_rng(0)
    small, mask = rng.random((5, 7), np.float32), np.zeros((31, 45), bool)
    mask[10:22, 8:40] = True
    collected = OverlapAreas()
    full = collected.add(small, mask, {"whole": components(mask)})
    np.testing.assert_array_equal(full, resize_map(small, mask.shape))
    placed = collected.add(small, mask, {"roi": components(mask)}, roi=(5, 10, 30, 20))
    np.testing.assert_array_equal(placed[10:30, 5:35], resize_map(small, (20, 30)))
    assert np.sum(placed == UNSEEN) == 31 * 45 - 30 * 20
    areas = collected.areas()
    for name, scores in (("whole", full), ("roi", placed)):
        assert areas[name] == pytest.approx(slow_areas([(scores, mask, components(mask))]))
    with pytest.raises(DataError, match="leaves a mask of 45 x 31"):
        collected.add(small, mask, {"roi": ()}, roi=(20, 10, 30, 20))


def test_components_touch_at_corners():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], bool)
    found = components(mask)
    assert [region.pixels.tolist() for region in found] == [[0, 5], [3, 7], [12, 13], [15]]
    assert [region.saturation_px for region in found] == [2, 2, 2, 1]
    assert components(mask & False) == []


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_ordered_bits_sort_like_the_numbers_and_come_back(values):
    numbers = np.array(values, np.float32)
    bits = np.sort(ordered_bits(numbers))
    np.testing.assert_array_equal(from_ordered_bits(bits), np.sort(numbers))


def test_wrong_input_is_refused():
    mask = row(1, 1, 0) > 0
    pixels = np.flatnonzero(mask)
    collected = OverlapAreas()
    with pytest.raises(DataError, match="NaN or Inf"):
        collected.add(row(np.nan, 0, 0), mask, {"it": ()})
    for region in (Region(pixels, 0), Region(pixels, 3), Region(pixels[:0], 1)):
        with pytest.raises(DataError, match="expected a saturation of 1 to"):
            collected.add(row(0, 0, 0), mask, {"it": [region]})
    with pytest.raises(DataError, match=r"in \(0, 1\]"):
        collected.areas([0.0])
    collected.add(row(0, 0), row(1, 1) > 0, {"full": [Region(np.array([0, 1]), 2)]})
    with pytest.raises(DataError, match="need good pixels"):
        collected.areas()


def test_memory_is_that_of_the_defects_not_of_the_pixels(monkeypatch):
    """100 maps of 640 × 800 would be 205 MB; a twentieth of their pixels is marked."""
    monkeypatch.setattr(overlap, "_BATCH", 1 << 20)
    rng = np.random.default_rng(0)
    mask = np.zeros((800, 640), bool)
    mask[100:260, 200:360] = True
    tracemalloc.start()
    collected = OverlapAreas()
    for _ in range(100):
        collected.add(rng.random((64, 64), np.float32), mask, {"it": components(mask)})
    areas = collected.areas()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = 20 * 100 * mask.sum() + 100 * (mask.size / 8 + 4 * 64 * 64)
    assert peak < kept + 4 * (1 << 20) + 16 * mask.size  # sorting, and what one image takes on its way
    assert areas["it"][1.0] == pytest.approx(0.5, abs=0.05)
