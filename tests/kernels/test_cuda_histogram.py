"""CUDA `masked_histograms` and `masked_histogram_score` equal the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_device import HostDevice
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import MASKED_HISTOGRAM_SCORE

from lad_edge.kernels import pack_masks, reference

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)
Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]


def random_inputs(masks: int, levels: int, tokens: int, entries: int) -> Inputs:
    rng = np.random.default_rng(tokens)
    covered = rng.random((masks, tokens)) < 0.25
    covered[:, rng.integers(tokens)] = True
    codes = rng.integers(0, entries, (levels, tokens)).astype(np.uint16)
    return codes, pack_masks(covered), rng.normal(0, 3, (masks, levels, entries)).astype(np.float32)


def score(device: HostDevice, inputs: Inputs) -> tuple[np.ndarray, int]:
    out, nonfinite = device.empty((len(inputs[1]),), np.float32), device.counter()
    buffers = {"nonfinite": nonfinite, "stream": device.stream}
    device.kernels.masked_histogram_score(*map(device.put, inputs), out, **buffers)
    return device.get(out), int(device.get(nonfinite)[0])


def check(device: HostDevice, inputs: Inputs) -> None:
    codes, masks, logits = inputs
    out, nonfinite = score(device, inputs)
    assert nonfinite == 0
    expected = reference.masked_histogram_score(codes, masks, logits.astype(np.float32))
    assert_allclose(out, expected, rtol=0, atol=MASKED_HISTOGRAM_SCORE.atol * len(codes))


@pytest.mark.parametrize("tokens", ODD)
@pytest.mark.parametrize("entries", ODD)
def test_score_for_odd_sizes(device: HostDevice, tokens: int, entries: int) -> None:
    check(device, random_inputs(3, 2, tokens, entries))


@pytest.mark.parametrize(("levels", "entries"), [(4, 512), (1, 1024), (5, 1025), (3, 2500)])
def test_score_at_full_size_and_beyond_the_bins_of_a_warp(device: HostDevice, levels: int, entries: int) -> None:
    check(device, random_inputs(16, levels, 576, entries))


def test_score_of_half_precision(device: HostDevice) -> None:
    codes, masks, logits = random_inputs(16, 4, 576, 512)
    check(device, (codes, masks, logits.astype(np.float16)))


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 15, 31, 96])
def test_score_of_a_mask_with_nonfinite_logits_is_nan(device: HostDevice, value: float, position: int) -> None:
    codes, masks, logits = random_inputs(3, 2, 65, 97)
    logits[1, 1, position] = logits[1, 0, 3] = value
    out, nonfinite = score(device, (codes, masks, logits))
    assert nonfinite == 2
    assert_array_equal(np.isnan(out), [False, True, False])


def test_score_of_an_empty_mask_is_nan(device: HostDevice) -> None:
    codes, masks, logits = random_inputs(2, 2, 65, 97)
    masks[1] = 0
    assert_array_equal(np.isnan(score(device, (codes, masks, logits))[0]), [False, True])


@pytest.mark.parametrize("tokens", ODD)
@pytest.mark.parametrize(("levels", "entries"), [(3, 1), (6, 97), (1, 1500)])
def test_histograms(device: HostDevice, tokens: int, levels: int, entries: int) -> None:
    codes, masks, _ = random_inputs(5, levels, tokens, entries)
    out = device.empty((5, levels, entries), np.uint16)
    device.kernels.masked_histograms(device.put(codes), device.put(masks), entries, out, stream=device.stream)
    assert_array_equal(device.get(out), reference.masked_histograms(codes, masks, entries))


def test_codes_behind_the_codebook_and_bits_behind_the_tokens_are_left_out(device: HostDevice) -> None:
    codes, masks = np.array([[1, 5, 0, 65535, 1]], np.uint16), np.full((1, 1), 0xFFFFFFFF, np.uint32)
    out = device.empty((1, 1, 3), np.uint16)
    device.kernels.masked_histograms(device.put(codes), device.put(masks), 3, out, stream=device.stream)
    assert device.get(out).tolist() == [[[1, 2, 0]]]
