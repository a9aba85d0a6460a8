from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import DISTANCE_MAP, FUSE, FUSE_LARGE, SIGMOID

from lad_edge.kernels import _cpu, distance_map, fuse, fuse_places, reference

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)
BAD = (np.nan, -np.nan, np.inf, -np.inf)
PLAIN = {"scale": (30.0, 20.0), "offset": (-0.1, -0.2), "sigmoid": False, "border": 4, "border_mode": "zero"}


def random_map(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32) * np.float32(0.02)


# ---- distance_map


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 384])
@pytest.mark.parametrize("width", ODD)
def test_distance_map_equals_reference(isa: str, channels: int, width: int) -> None:
    rng = np.random.default_rng(width)
    a, b = (rng.normal(size=(channels, 3, width)).astype(np.float32) for _ in range(2))
    out = np.full((3, width), np.nan, np.float32)
    assert distance_map(a, b, out=out) == 0
    assert_allclose(out, reference.distance_map(a, b), rtol=DISTANCE_MAP.rtol, atol=DISTANCE_MAP.atol)


def test_distance_map_of_more_positions_than_a_block(isa: str) -> None:
    a, b = random_map(7, 97, 91), random_map(7, 97, 91, seed=1)
    out = np.empty((97, 91), np.float32)
    assert distance_map(a[None], b[None], out=out) == 0
    assert_allclose(out, reference.distance_map(a, b), rtol=DISTANCE_MAP.rtol, atol=DISTANCE_MAP.atol)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("position", [0, 15, 16, 96])
@pytest.mark.parametrize("channel", [0, 3, 4, 6])
def test_distance_map_counts_nonfinite_positions(isa: str, value: float, position: int, channel: int) -> None:
    a, b = random_map(7, 1, 97), random_map(7, 1, 97, seed=1)
    b[channel, 0, position] = value
    out = np.empty((1, 97), np.float32)
    assert distance_map(a, b, out=out) == 1
    assert_array_equal(np.flatnonzero(~np.isfinite(out)), [position])


def test_distance_map_overflow_is_counted_and_denormals_are_not() -> None:
    a, b = np.zeros((1, 1, 3), np.float32), np.zeros((1, 1, 3), np.float32)
    a[0, 0] = (1e30, 1e-40, 0)
    assert distance_map(a, b, out=np.empty((1, 3), np.float32)) == 1


@pytest.mark.parametrize(
    ("a", "b", "out", "error"),
    [
        (np.zeros((2, 3, 4)), np.zeros((2, 3, 4), np.float32), np.zeros((3, 4), np.float32), TypeError),
        (
            np.zeros((2, 3, 8), np.float32)[..., ::2],
            np.zeros((2, 3, 4), np.float32),
            np.zeros((3, 4), np.float32),
            TypeError,
        ),
        (np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 4), np.float32), np.zeros((3, 4)), TypeError),
        (np.zeros((2, 3, 4), np.float32), np.zeros((2, 4, 3), np.float32), np.zeros((3, 4), np.float32), ValueError),
        (np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 4), np.float32), np.zeros((4, 3), np.float32), ValueError),
        (np.zeros((2, 2, 3, 4), np.float32), np.zeros((2, 3, 4), np.float32), np.zeros((3, 4), np.float32), ValueError),
        (np.zeros((0, 3, 4), np.float32), np.zeros((0, 3, 4), np.float32), np.zeros((3, 4), np.float32), ValueError),
        (np.zeros((2, 3, 4), ">f4"), np.zeros((2, 3, 4), np.float32), np.zeros((3, 4), np.float32), TypeError),
    ],
)
def test_distance_map_refuses(a: np.ndarray, b: np.ndarray, out: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        distance_map(a, b, out=out)


# ---- fuse


def check_fuse(structural: np.ndarray, logical: np.ndarray, size: tuple[int, int], **options: object) -> None:
    expected, full = reference.fuse(structural, logical, size=size, **options)
    out = np.full(size, np.nan, np.float32)
    got = fuse(structural, logical, size=size, out=out, **options)
    # Interpolation may cancel large cells: the error follows the largest normalised cell, not the values that are left.
    reach = [
        abs(s) * np.abs(m).max() + abs(o)
        for s, m, o in zip(options["scale"], (structural, logical), options["offset"], strict=True)
    ]
    largest = max(1.0, *reach)
    assert_allclose(out, full, rtol=0, atol=FUSE_LARGE.atol * (1.0 if options["sigmoid"] else largest))
    assert_allclose(got[3:5], expected[3:5], rtol=0, atol=FUSE_LARGE.atol * largest)
    assert got.nonfinite == 0
    # The written map, its maximum and the first pixel that has it agree to the bit, and so does the form without out.
    assert got.score == out.max()
    assert (got.y_px, got.x_px) == np.unravel_index(out.argmax(), size)
    assert fuse(structural, logical, size=size, **options) == got


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("side", ODD)
@pytest.mark.parametrize("target", ODD)
def test_fuse_equals_reference_for_odd_sizes(isa: str, side: int, target: int, sigmoid: bool) -> None:
    structural, logical = random_map(side, 33, seed=1), random_map(side, 33, seed=2)
    check_fuse(structural, logical, (target, 98 - target), **{**PLAIN, "sigmoid": sigmoid})


@pytest.mark.parametrize("size", [(256, 256), (1024, 1280), (999, 1001)])
def test_fuse_at_full_size_is_close(isa: str, size: tuple[int, int]) -> None:
    structural, logical = random_map(56, 56, seed=1), random_map(56, 56, seed=2)
    expected, full = reference.fuse(structural, logical, size=size, **PLAIN)
    out = np.empty(size, np.float32)
    got = fuse(structural, logical, size=size, out=out, **PLAIN)
    assert_allclose(out, full, rtol=0, atol=FUSE.atol)
    assert_allclose(got[:5], expected[:5], rtol=0, atol=FUSE.atol)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_fuse_equals_reference_for_any_parameters(data: st.DataObject) -> None:
    side = st.integers(1, 20)
    height, width = data.draw(side), data.draw(side)
    value = st.floats(-1e3, 1e3, width=32)
    maps = [
        np.array(data.draw(st.lists(value, min_size=n, max_size=n)), np.float32).reshape(height, width)
        for n in [height * width] * 2
    ]
    options = {
        "scale": (data.draw(value), data.draw(value)),
        "offset": (data.draw(value), data.draw(value)),
        "sigmoid": data.draw(st.booleans()),
        "border": data.draw(st.integers(0, 5)),
        "border_mode": data.draw(st.sampled_from(["zero", "replicate"])),
    }
    check_fuse(*maps, (data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))), **options)


def test_fuse_equals_torch_interpolate() -> None:
    torch = pytest.importorskip("torch", reason="the training extra is not installed")
    structural, logical = random_map(56, 56, seed=1), random_map(56, 56, seed=2)
    low = 0.5 * np.pad(structural, 4) + 0.5 * np.pad(logical, 4)
    options = {"scale": (1.0, 1.0), "offset": (0.0, 0.0), "sigmoid": False, "border": 4, "border_mode": "zero"}
    for size in ((256, 256), (301, 97), (40, 50)):
        out = np.empty(size, np.float32)
        fuse(structural, logical, size=size, out=out, **options)
        full = torch.nn.functional.interpolate(torch.from_numpy(low)[None, None], size, mode="bilinear")[0, 0].numpy()
        assert_allclose(out, full, rtol=0, atol=FUSE.atol)


def test_zero_border_pads_the_raw_map() -> None:
    """Decision E-3: the border is the normalised value of 0, the offset, not 0."""
    one = np.ones((3, 3), np.float32)
    options = {"scale": (2.0, 2.0), "offset": (-0.5, -0.5), "sigmoid": False, "border": 2, "size": (7, 7)}
    out = np.empty((7, 7), np.float32)
    fuse(one, one, border_mode="zero", out=out, **options)
    assert_array_equal(out[0], np.full(7, -0.5, np.float32))
    assert out[3, 3] == 1.5
    assert fuse(one, one, border_mode="replicate", out=out, **options).score == 1.5
    assert_array_equal(out, np.full((7, 7), 1.5, np.float32))


def test_isolated_peak_keeps_766_thousandths() -> None:
    """methods.md 2.6: x4 half-pixel upsampling samples a one-cell peak at 1/8 of a cell from its centre."""
    peak = np.zeros((56, 56), np.float32)
    peak[20, 30] = 1
    options = {**PLAIN, "scale": (1.0, 1.0), "offset": (0.0, 0.0)}
    assert_allclose(fuse(peak, peak, size=(256, 256), **options).score, 0.875**2, rtol=0, atol=FUSE.atol)


def test_ties_go_to_the_lowest_index(isa: str) -> None:
    flat = np.full((9, 9), 0.3, np.float32)
    options = {**PLAIN, "border": 0}
    assert fuse(flat, flat, size=(100, 130), **options)[1:3] == (0, 0)
    two = np.zeros((16, 16), np.float32)
    two[3, 12] = two[11, 2] = 1
    assert fuse(two, two, size=(16, 16), **options)[1:3] == (3, 12)


def test_sigmoid_is_accurate_from_end_to_end(isa: str) -> None:
    x = np.linspace(-120, 120, 4801, dtype=np.float32)[None]
    out = np.empty(x.shape, np.float32)
    options = {"scale": (1.0, 1.0), "offset": (0.0, 0.0), "sigmoid": True, "border": 0, "border_mode": "zero"}
    fuse(x, x, size=x.shape, out=out, **options)
    assert_allclose(out, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=0, atol=SIGMOID.atol)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("position", [(0, 0), (0, 15), (0, 16), (16, 32), (32, 32)])
def test_nonfinite_cells_are_counted_and_poison_the_score(
    isa: str, value: float, position: tuple[int, int], sigmoid: bool
) -> None:
    structural, logical = random_map(33, 33, seed=1), random_map(33, 33, seed=2)
    logical[position] = value
    options = {**PLAIN, "sigmoid": sigmoid, "size": (64, 65)}
    for out in (None, np.empty((64, 65), np.float32)):
        got = fuse(structural, logical, out=out, **options)
        assert got.nonfinite == 1
        assert np.isnan(got.score)
        assert np.isnan(got.logical)
        assert (got.y_px, got.x_px) == (-1, -1)
        assert got.structural == fuse(structural, structural, **options).structural
    both = fuse(logical, logical, **options)
    assert both.nonfinite == 2
    assert np.isnan(both.structural)


def test_overflow_while_normalising_counts_as_nonfinite_and_denormals_do_not() -> None:
    tiny, huge = np.full((5, 5), 1e-40, np.float32), np.full((5, 5), 1e30, np.float32)
    options = {**PLAIN, "size": (9, 9)}
    assert fuse(tiny, tiny, **options).nonfinite == 0
    assert fuse(huge, tiny, **{**options, "scale": (1e20, 1.0)}).nonfinite == 25


def test_all_instruction_sets_give_the_same_bits() -> None:
    structural, logical = random_map(56, 57, seed=1), random_map(56, 57, seed=2)
    results, before = [], _cpu.isa()
    for name in _cpu.isas():
        _cpu.use_isa(name)
        out = np.empty((301, 403), np.float32)
        results.append(
            (fuse(structural, logical, size=out.shape, out=out, **{**PLAIN, "sigmoid": True}), out.tobytes())
        )
    _cpu.use_isa(before)
    assert all(result == results[0] for result in results)


def test_threads_do_not_disturb_each_other() -> None:
    inputs = [(random_map(20 + i, 30, seed=i), (100 + 7 * i, 90)) for i in range(4)]
    expected = [fuse(m, m, size=size, **PLAIN) for m, size in inputs]
    got: list[list[object]] = [[] for _ in inputs]

    def work(i: int) -> None:
        m, size = inputs[i]
        got[i] = [fuse(m, m, size=size, **PLAIN) for _ in range(200)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[e] * 200 for e in expected]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"structural": np.zeros((5, 5))}, TypeError, "structural"),
        ({"logical": np.zeros((5, 10), np.float32)[:, ::2]}, TypeError, "logical"),
        ({"logical": np.zeros((5, 6), np.float32)}, ValueError, "logical"),
        ({"structural": np.zeros((0, 5), np.float32), "logical": np.zeros((0, 5), np.float32)}, ValueError, "cells"),
        ({"out": np.zeros((8, 9))}, TypeError, "out"),
        ({"out": np.zeros((9, 8), np.float32)}, ValueError, "out"),
        ({"size": (0, 9)}, ValueError, "size"),
        ({"border": -1}, ValueError, "border"),
        ({"border_mode": "reflect"}, ValueError, "'zero' or 'replicate', got 'reflect'"),
        ({"scale": (float("nan"), 1.0)}, ValueError, "scale"),
        ({"offset": (1.0, float("inf"))}, ValueError, "offset"),
    ],
)
def test_fuse_refuses(change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {
        "structural": np.zeros((5, 5), np.float32),
        "logical": np.zeros((5, 5), np.float32),
        "size": (8, 9),
        **PLAIN,
    }
    with pytest.raises(error, match=message):
        fuse(**{**arguments, **change})


# ---- fuse_places


def random_places(height: int, width: int) -> np.ndarray:
    usual, weight = random_map(2 * height, width, seed=3), 0.1 + np.abs(random_map(2 * height, width, seed=4))
    return np.stack([usual, weight]).reshape(2, 2, height, width)


@pytest.mark.parametrize("border_mode", ["zero", "replicate"])
@pytest.mark.parametrize("size", [(256, 256), (61, 97), (5, 3)])
def test_fuse_places_equals_reference(isa: str, size: tuple[int, int], border_mode: str) -> None:
    maps = [random_map(33, 31, seed=seed) for seed in (1, 2)]
    options = {"places": random_places(33, 31), "border": 4, "border_mode": border_mode, "size": size}
    expected, full = reference.fuse_places(*maps, **options)
    out = np.full(size, np.nan, np.float32)
    got = fuse_places(*maps, out=out, **options)
    assert_allclose(out, full, rtol=0, atol=FUSE_LARGE.atol * max(1.0, expected.score))
    assert_allclose(got[3:5], expected[3:5], rtol=1e-5)
    assert got.score == out.max()
    assert (got.y_px, got.x_px) == np.unravel_index(out.argmax(), size)
    assert fuse_places(*maps, **options) == got


def test_the_larger_branch_decides_at_each_place_and_nothing_lies_below_zero() -> None:
    structural, logical = np.zeros((2, 8, 8), np.float32)
    structural[1, 1], logical[6, 6], logical[1, 1] = 5, 7, -9
    places = np.stack([np.ones((2, 8, 8)), np.full((2, 8, 8), 2)]).astype(np.float32)
    out = np.empty((8, 8), np.float32)
    got = fuse_places(structural, logical, places=places, border=0, border_mode="zero", size=(8, 8), out=out)
    assert (got.structural, got.logical, got.score) == (8, 12, 12)
    assert out[1, 1] == 8
    assert out.sum() == 20


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_fuse_places_counts_cells_that_are_not_finite(isa: str, value: float) -> None:
    maps = [random_map(33, 33, seed=seed) for seed in (1, 2)]
    maps[0][4, 30] = value
    got = fuse_places(*maps, places=random_places(33, 33), border=4, border_mode="zero", size=(64, 64))
    assert got.nonfinite == 1
    assert np.isnan(got.score)
    assert np.isnan(got.structural)
    assert np.isfinite(got.logical)


def test_fuse_places_refuses_places_of_another_shape() -> None:
    one = random_map(5, 5, seed=1)
    with pytest.raises(ValueError, match=r"places: expected shape \(2, 2, 5, 5\)"):
        fuse_places(one, one, places=np.ones((2, 5, 5), np.float32), border=0, border_mode="zero", size=(9, 9))


def test_fuse_places_gives_the_same_bits_on_all_instruction_sets() -> None:
    maps, before = [random_map(56, 57, seed=seed) for seed in (1, 2)], _cpu.isa()
    results = []
    for name in _cpu.isas():
        _cpu.use_isa(name)
        out = np.empty((301, 403), np.float32)
        places = random_places(56, 57)
        results.append(
            (fuse_places(*maps, places=places, border=4, border_mode="zero", size=out.shape, out=out), out.tobytes())
        )
    _cpu.use_isa(before)
    assert all(result == results[0] for result in results)
