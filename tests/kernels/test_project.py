from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import PROJECT_MAPS, RESAMPLING

from lad_edge.kernels import _cpu, project_maps, reference
from lad_edge.kernels.resampling import bilinear, blurred_bilinear, gaussian

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)
Terms = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], list[float]]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def terms(size: tuple[int, int], *sides: int, sparse: bool = False) -> Terms:
    maps = [normal(side, side + 2, seed=side) for side in sides]
    rows, columns = [normal(size[0], m.shape[0]) for m in maps], [normal(size[1], m.shape[1], seed=1) for m in maps]
    if sparse:
        for table in (*rows, *columns):
            table[np.random.default_rng(0).random(table.shape) < 0.7] = 0
    return maps, rows, columns, [0.5, -2.0, 0.25][: len(sides)]


def check(given_terms: Terms, constant: float, size: tuple[int, int]) -> None:
    out = np.full(size, np.nan, np.float32)
    got = project_maps(*given_terms, constant, out)
    expected, full = reference.project_maps(*given_terms, constant)
    sizes = [[np.abs(x) for x in group] for group in given_terms[:3]]
    reach = reference.project_maps(*sizes, [abs(w) for w in given_terms[3]], abs(constant))[0].score
    assert_allclose(out, full, rtol=0, atol=PROJECT_MAPS.rtol * reach)
    assert_allclose(got.score, expected.score, rtol=0, atol=PROJECT_MAPS.rtol * reach)
    assert got.nonfinite == 0
    assert got.score == out.max()
    assert (got.y_px, got.x_px) == np.unravel_index(out.argmax(), size)


# ---- project_maps


@pytest.mark.parametrize("side", ODD)
@pytest.mark.parametrize("target", ODD)
def test_equals_reference_for_odd_sizes(isa: str, side: int, target: int) -> None:
    check(terms((target, 98 - target), side), 0.3, (target, 98 - target))


@pytest.mark.parametrize("sparse", [False, True])
def test_several_maps_of_several_sizes(isa: str, sparse: bool) -> None:
    check(terms((65, 33), 7, 16, 33, sparse=sparse), -1.0, (65, 33))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_equals_reference_for_any_sparse_weights(data: st.DataObject) -> None:
    height, width, side = (data.draw(st.integers(1, 20)) for _ in range(3))
    check(terms((height, width), side, side + 1, sparse=True), data.draw(st.floats(-9, 9, width=32)), (height, width))


def test_blurred_bilinear_at_full_size(isa: str) -> None:
    maps = [np.abs(normal(32, 32)), np.abs(normal(16, 16))]
    enlarge = [blurred_bilinear(m.shape[0], 256, 4.0, border="symmetric", corners=True) for m in maps]
    check((maps, enlarge, enlarge, [0.5, 0.5]), 0.1, (256, 256))


def test_ties_go_to_the_lowest_index(isa: str) -> None:
    out = np.empty((33, 65), np.float32)
    ones = [np.ones((1, 1), np.float32)], [np.ones((33, 1), np.float32)], [np.ones((65, 1), np.float32)], [0.5]
    assert project_maps(*ones, 0.25, out) == (0.75, 0, 0, 0)
    two = np.zeros((33, 65), np.float32)
    two[9, 50] = two[9, 51] = two[20, 3] = 1
    identity = [two], [np.eye(33, dtype=np.float32)], [np.eye(65, dtype=np.float32)], [1.0]
    assert project_maps(*identity, 0.0, out) == (1.0, 9, 50, 0)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_nonfinite_cells_are_counted_and_poison_what_they_reach(isa: str, value: float) -> None:
    identity = np.eye(33, dtype=np.float32)
    bad = normal(33, 33)
    bad[4, 31] = value
    out = np.empty((33, 33), np.float32)
    got = project_maps([bad, normal(33, 33)], [identity] * 2, [identity] * 2, [1.0, 1.0], 0.0, out)
    assert np.isnan(got.score)
    assert got[1:] == (-1, -1, 1)
    assert not np.isfinite(out[4, 31])
    dense = project_maps([bad], [normal(33, 33)], [normal(33, 33)], [1.0], 0.0, out)
    assert dense.nonfinite == 1
    assert not np.isfinite(out).any()


def test_overflow_is_counted_in_pixels(isa: str) -> None:
    out = np.empty((3, 3), np.float32)
    huge, identity = np.diag([1, 3e38, 1]).astype(np.float32), np.eye(3, dtype=np.float32)
    assert project_maps([huge], [identity], [identity], [1e9], 0.0, out).nonfinite == 1


def test_all_instruction_sets_give_the_same_bits() -> None:
    given_terms = terms((97, 131), 16, 33)
    results, before = [], _cpu.isa()
    for name in _cpu.isas():
        _cpu.use_isa(name)
        out = np.empty((97, 131), np.float32)
        results.append((project_maps(*given_terms, 0.1, out), out.tobytes()))
    _cpu.use_isa(before)
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"maps": [np.zeros((4, 5))]}, TypeError, r"maps\[0\]: expected a C-contiguous float32"),
        ({"maps": [np.zeros((4, 6), np.float32)]}, ValueError, r"columns\[0\]: expected shape \(9, 6\)"),
        ({"maps": []}, ValueError, "the same number of each"),
        ({"rows": [np.zeros((8, 8), np.float32)[:, ::2]]}, TypeError, "rows"),
        ({"rows": [np.full((8, 4), np.nan, np.float32)]}, ValueError, r"rows\[0\]: expected finite"),
        ({"columns": [np.zeros((9, 4), np.float32)]}, ValueError, "columns"),
        ({"weights": [1.0, 2.0]}, ValueError, "the same number of each"),
        ({"weights": [float("inf")]}, ValueError, "weights: expected finite"),
        ({"constant": float("nan")}, ValueError, "constant: expected a finite"),
        ({"out": np.zeros((8, 9))}, TypeError, "out"),
        ({"out": np.zeros((9, 8), np.float32)}, ValueError, "rows"),
    ],
)
def test_refuses(change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {
        "maps": [np.zeros((4, 5), np.float32)],
        "rows": [np.zeros((8, 4), np.float32)],
        "columns": [np.zeros((9, 5), np.float32)],
        "weights": [1.0],
        "constant": 0.0,
        "out": np.zeros((8, 9), np.float32),
    }
    with pytest.raises(error, match=message):
        project_maps(**{**arguments, **change})


# ---- the matrices (methods.md 13.6)


@pytest.mark.parametrize("size_in", [1, 2, 16, 33])
@pytest.mark.parametrize("size_out", [1, 7, 16, 97, 256])
@pytest.mark.parametrize("corners", [False, True])
def test_bilinear_equals_torch(size_in: int, size_out: int, corners: bool) -> None:
    torch = pytest.importorskip("torch", reason="the training extra is not installed")
    line = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, size_in)))
    wanted = torch.nn.functional.interpolate(line, size_out, mode="linear", align_corners=corners)[0, 0].numpy()
    assert_allclose(bilinear(size_in, size_out, corners) @ line[0, 0].numpy(), wanted, rtol=0, atol=RESAMPLING.atol)


@pytest.mark.parametrize(("border", "mode"), [("reflect101", "reflect"), ("symmetric", "symmetric")])
@pytest.mark.parametrize("size", [1, 2, 3, 16, 33, 256])
@pytest.mark.parametrize("radius", [0, 1, 16, 40])
def test_gaussian_is_the_convolution_of_the_padded_row(border: str, mode: str, size: int, radius: int) -> None:
    row = np.random.default_rng(size).normal(size=size)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / 4.0) ** 2)
    wanted = np.convolve(np.pad(row, radius, mode=mode), taps / taps.sum(), mode="valid")
    assert_allclose(gaussian(size, 4.0, border, radius) @ row, wanted, rtol=0, atol=RESAMPLING.atol)


def test_gaussian_equals_opencv_for_ulsad() -> None:
    image = np.random.default_rng(0).normal(size=(256, 200))
    wanted = cv2.GaussianBlur(image, (33, 33), 4.0, borderType=cv2.BORDER_REFLECT_101)
    got = gaussian(256, 4.0, "reflect101", 16) @ image @ gaussian(200, 4.0, "reflect101").T
    assert_allclose(got, wanted, rtol=0, atol=RESAMPLING.atol)


def test_gaussian_equals_scipy_for_fod() -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")
    image = np.random.default_rng(0).normal(size=(256, 200))
    wanted = ndimage.gaussian_filter(image, 4.0, mode="reflect", truncate=4.0)
    got = gaussian(256, 4.0, "symmetric") @ image @ gaussian(200, 4.0, "symmetric").T
    assert_allclose(got, wanted, rtol=0, atol=RESAMPLING.atol)


@pytest.mark.parametrize("border", ["reflect101", "symmetric"])
def test_rows_sum_to_one(border: str) -> None:
    matrix = blurred_bilinear(33, 97, 4.0, border=border)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert_allclose(matrix.sum(1), 1, rtol=1e-6)


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="border: expected 'reflect101' or 'symmetric', got 'wrap'"):
        gaussian(9, 4.0, "wrap")
    with pytest.raises(ValueError, match="sigma: expected a positive"):
        gaussian(9, 0.0, "symmetric")


def test_a_peak_keeps_what_methods_say() -> None:
    """methods.md 13.10: half-pixel x8 sampling keeps 0.8789 of an isolated cell."""
    peak = np.zeros(32)
    peak[10] = 1
    assert_array_equal((bilinear(32, 256, False) @ peak).max() ** 2, 0.9375**2)
