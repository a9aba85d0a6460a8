from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tolerances import PREPROCESS, PREPROCESS_PILLOW_GREY

from lad_edge.kernels import Preprocess, _cpu, reference

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IDENTITY = {"swap_rb": False, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def natural_image(height: int, width: int) -> np.ndarray:
    """Smooth shading, hard edges, fine texture: what a camera sees."""
    y, x = np.mgrid[:height, :width]
    shade = 90 + 60 * np.sin(x / 41.0) * np.cos(y / 57.0)
    edges = 80 * ((x // 37 + y // 29) % 2)
    texture = np.random.default_rng(1).normal(0, 8, (height, width))
    channels = [shade + edges + texture, shade + texture, 200 - shade + edges]
    return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)


def run(image: np.ndarray, size: tuple[int, int], **options: object) -> np.ndarray:
    out = np.full((3, *size), np.nan, np.float32)
    Preprocess(image.shape, size, **options)(image, out)
    return out


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", ODD)
@pytest.mark.parametrize("target", ODD)
def test_equals_reference_for_odd_sizes(isa: str, side: int, target: int, channels: int) -> None:
    image = random_image(side, 98 - side, channels, seed=side)
    options = {"swap_rb": True, "mean": MEAN, "std": STD}
    by_reference = reference.preprocess(image, (target, 33), **options)
    assert_allclose(run(image, (target, 33), **options), by_reference, rtol=PREPROCESS.rtol, atol=PREPROCESS.atol)


@pytest.mark.parametrize("source", [(1024, 1280), (480, 641), (97, 131), (40, 30)])
@pytest.mark.parametrize("make", [lambda h, w: random_image(h, w, 3), natural_image])
def test_within_one_grey_level_of_pillow(isa: str, source: tuple[int, int], make: object) -> None:
    image = make(*source)
    by_pillow = np.asarray(Image.fromarray(image).resize((255, 256), Image.Resampling.BILINEAR), np.float64)
    grey = run(image, (256, 255), **IDENTITY).transpose(1, 2, 0) * 255.0
    assert_allclose(grey, by_pillow, rtol=0, atol=PREPROCESS_PILLOW_GREY.atol)


def test_same_size_is_the_exact_image(isa: str) -> None:
    image = random_image(33, 65, 3)
    assert_array_equal(np.rint(run(image, (33, 65), **IDENTITY) * 255), image.transpose(2, 0, 1))


def test_all_instruction_sets_give_the_same_bits() -> None:
    image, results = random_image(241, 323, 3), []
    before = _cpu.isa()
    for name in _cpu.isas():
        _cpu.use_isa(name)
        results.append(run(image, (97, 65), swap_rb=True, mean=MEAN, std=STD))
    _cpu.use_isa(before)
    for other in results[1:]:
        assert_array_equal(other, results[0])


def test_roi_equals_the_cropped_image() -> None:
    image = random_image(120, 161, 3)
    roi = run(image, (33, 31), roi=(17, 5, 97, 64), **IDENTITY)
    assert_array_equal(roi, run(np.ascontiguousarray(image[5:69, 17:114]), (33, 31), **IDENTITY))


def test_row_pitch_of_a_view_is_honoured() -> None:
    image = random_image(90, 200, 3)
    for view in (image[10:70, 20:101], image[::2, 3:90], image[::-1]):
        copy = np.ascontiguousarray(view)
        assert_array_equal(run(view, (31, 33), **IDENTITY), run(copy, (31, 33), **IDENTITY))


def test_mono_fills_three_channels_and_takes_both_forms() -> None:
    image = random_image(65, 97)
    flat, deep = run(image, (33, 31), **IDENTITY), run(image[:, :, None], (33, 31), **IDENTITY)
    assert_array_equal(flat, deep)
    assert_array_equal(flat[0], flat[2])
    colour = run(np.repeat(image[:, :, None], 3, axis=2), (33, 31), **IDENTITY)
    assert_allclose(flat, colour, rtol=0, atol=PREPROCESS.atol)


def test_swap_rb_exchanges_planes_before_normalising() -> None:
    image = random_image(64, 64, 3)
    swapped = run(image, (31, 31), swap_rb=True, mean=MEAN, std=STD)
    rgb = run(np.ascontiguousarray(image[:, :, ::-1]), (31, 31), swap_rb=False, mean=MEAN, std=STD)
    assert_array_equal(swapped, rgb)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from([1, 3]),
    st.integers(0, 255),
)
def test_constant_image_stays_constant(
    source: tuple[int, int], size: tuple[int, int], channels: int, grey: int
) -> None:
    out = run(np.full((*source, channels), grey, np.uint8), size, **IDENTITY)
    assert_allclose(out, grey / 255.0, rtol=0, atol=PREPROCESS.atol)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_reference_for_any_geometry(data: st.DataObject) -> None:
    side = st.integers(1, 90)
    height, width, h, w = (data.draw(side) for _ in range(4))
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    roi = (x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    options = {"roi": roi, "swap_rb": data.draw(st.booleans()), "mean": MEAN, "std": STD}
    image = random_image(height, width, data.draw(st.sampled_from([1, 3])), seed=height)
    by_reference = reference.preprocess(image, (h, w), **options)
    assert_allclose(run(image, (h, w), **options), by_reference, rtol=PREPROCESS.rtol, atol=PREPROCESS.atol)


def test_batch_of_one_is_accepted() -> None:
    image, out = random_image(20, 20, 3), np.zeros((1, 3, 8, 8), np.float32)
    Preprocess((20, 20, 3), (8, 8), **IDENTITY)(image, out)
    assert_array_equal(out[0], run(image, (8, 8), **IDENTITY))


@pytest.mark.parametrize(
    ("image", "out", "error", "message"),
    [
        (np.zeros((8, 8, 3), np.uint16), np.zeros((3, 4, 4), np.float32), TypeError, "uint8"),
        (np.zeros((8, 3, 8), np.uint8).transpose(0, 2, 1), np.zeros((3, 4, 4), np.float32), TypeError, "packed"),
        (np.zeros((8, 16, 3), np.uint8)[:, ::2], np.zeros((3, 4, 4), np.float32), TypeError, "packed"),
        (np.zeros((8, 8, 4), np.uint8), np.zeros((3, 4, 4), np.float32), ValueError, r"\(8, 8, 3\)"),
        (np.zeros((8, 8), np.uint8), np.zeros((3, 4, 4), np.float32), ValueError, r"\(8, 8, 3\)"),
        (np.zeros((8, 9, 3), np.uint8), np.zeros((3, 4, 4), np.float32), ValueError, r"\(8, 9, 3\)"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((3, 4, 4), np.float64), TypeError, "float32"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((4, 4, 3), np.float32).transpose(2, 0, 1), TypeError, "C-contiguous"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((3, 4, 5), np.float32), ValueError, r"\(3, 4, 4\)"),
        ([[0]], np.zeros((3, 4, 4), np.float32), TypeError, "numpy array"),
    ],
)
def test_wrong_arrays_are_refused(image: np.ndarray, out: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Preprocess((8, 8, 3), (4, 4), **IDENTITY)(image, out)


def test_read_only_output_is_refused() -> None:
    out = np.zeros((3, 4, 4), np.float32)
    out.flags.writeable = False
    with pytest.raises(TypeError, match="writable"):
        Preprocess((8, 8, 3), (4, 4), **IDENTITY)(np.zeros((8, 8, 3), np.uint8), out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_shape": (8, 8, 4)}, "source_shape"),
        ({"source_shape": (0, 8, 3)}, "source_shape"),
        ({"source_shape": (8,)}, "source_shape"),
        ({"size": (0, 4)}, "size"),
        ({"roi": (4, 0, 5, 8)}, "roi"),
        ({"roi": (-1, 0, 4, 4)}, "roi"),
        ({"roi": (0, 0, 2**31 - 1, 4)}, "roi"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"mean": (float("nan"), 0.0, 0.0)}, "mean"),
    ],
)
def test_impossible_geometry_is_refused(change: dict[str, object], message: str) -> None:
    arguments = {"source_shape": (8, 8, 3), "size": (4, 4), **IDENTITY, **change}
    with pytest.raises(ValueError, match=message):
        Preprocess(arguments.pop("source_shape"), arguments.pop("size"), **arguments)


def test_two_threads_on_one_plan_are_refused_or_take_turns() -> None:
    image, expected = random_image(1024, 1280, 3), run(random_image(1024, 1280, 3), (256, 256), **IDENTITY)
    plan, results, refused = Preprocess(image.shape, (256, 256), **IDENTITY), [], []

    def work() -> None:
        for _ in range(20):
            out = np.empty((3, 256, 256), np.float32)
            try:
                plan(image, out)
            except RuntimeError as exc:
                refused.append(str(exc))
            else:
                results.append(out)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) + len(refused) == 60
    assert results
    for out in results:
        assert_array_equal(out, expected)
    assert all("one plan per thread" in text for text in refused)
