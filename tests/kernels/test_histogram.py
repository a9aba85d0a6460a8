from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import MASKED_HISTOGRAM_SCORE

from lad_edge.kernels import _cpu, masked_histogram_score, masked_histograms, pack_masks, reference

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)


def random_inputs(
    masks: int, levels: int, tokens: int, entries: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    covered = rng.random((masks, tokens)) < 0.25
    covered[:, rng.integers(tokens)] = True
    codes = rng.integers(0, entries, (levels, tokens)).astype(np.uint16)
    return codes, pack_masks(covered), rng.normal(0, 3, (masks, levels, entries)).astype(np.float32)


def check(codes: np.ndarray, masks: np.ndarray, logits: np.ndarray) -> None:
    out = np.full(len(masks), np.nan, np.float32)
    assert masked_histogram_score(codes, masks, logits, out) == 0
    expected = reference.masked_histogram_score(codes, masks, logits)
    assert_allclose(out, expected, rtol=0, atol=MASKED_HISTOGRAM_SCORE.atol * len(codes))


# ---- masked_histogram_score


@pytest.mark.parametrize("tokens", ODD)
@pytest.mark.parametrize("entries", ODD)
def test_score_equals_reference_for_odd_sizes(isa: str, tokens: int, entries: int) -> None:
    check(*random_inputs(3, 2, tokens, entries))


def test_score_at_full_size(isa: str) -> None:
    check(*random_inputs(16, 4, 576, 512))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_score_equals_reference_for_any_logits(data: st.DataObject) -> None:
    entries = data.draw(st.integers(1, 40))
    codes, masks, logits = random_inputs(1, 1, data.draw(st.integers(1, 70)), entries, data.draw(st.integers(0, 9)))
    value = st.floats(-1e3, 1e3, width=32)
    logits[0, 0] = data.draw(st.lists(value, min_size=entries, max_size=entries))
    check(codes, masks, logits)


def test_score_is_0_for_the_true_histogram_and_2_for_a_certain_error(isa: str) -> None:
    codes = np.array([[0, 0, 1, 3]], np.uint16)
    masks = pack_masks(np.array([[True, True, True, False]] * 2))
    logits = np.full((2, 1, 4), -1000, np.float32)
    logits[0, 0, :2] = np.log([2, 1])
    logits[1, 0, 3] = 0
    out = np.empty(2, np.float32)
    masked_histogram_score(codes, masks, logits, out)
    assert_allclose(out, [0, 2], atol=MASKED_HISTOGRAM_SCORE.atol)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 15, 16, 96])
def test_score_of_a_mask_with_nonfinite_logits_is_nan(isa: str, value: float, position: int) -> None:
    codes, masks, logits = random_inputs(3, 2, 65, 97)
    logits[1, 1, position] = value
    out = np.empty(3, np.float32)
    assert masked_histogram_score(codes, masks, logits, out) == 1
    assert_array_equal(np.isnan(out), [False, True, False])


def test_all_instruction_sets_give_the_same_bits() -> None:
    inputs = random_inputs(16, 4, 576, 511)
    results, before = [], _cpu.isa()
    for name in _cpu.isas():
        _cpu.use_isa(name)
        out = np.empty(16, np.float32)
        masked_histogram_score(*inputs, out)
        results.append(out.tobytes())
    _cpu.use_isa(before)
    assert len(set(results)) == 1


def test_threads_do_not_disturb_each_other() -> None:
    inputs = [random_inputs(3 + i, 2, 60 + i, 100 + 9 * i, seed=i) for i in range(4)]
    got = [np.empty((100, len(masks)), np.float32) for _, masks, _ in inputs]

    def work(i: int) -> None:
        for row in got[i]:
            masked_histogram_score(*inputs[i], row)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((rows == rows[0]).all() for rows in got)


# ---- masked_histograms and pack_masks


@pytest.mark.parametrize("tokens", ODD)
@pytest.mark.parametrize("entries", [1, 16, 97])
def test_histograms_equal_reference(tokens: int, entries: int) -> None:
    codes, masks, _ = random_inputs(5, 3, tokens, entries)
    out = np.full((5, 3, entries), 7, np.uint16)
    masked_histograms(codes, masks, entries, out)
    assert_array_equal(out, reference.masked_histograms(codes, masks, entries))


@pytest.mark.parametrize("tokens", [*ODD, 576])
def test_packed_masks_unpack_to_themselves(tokens: int) -> None:
    covered = np.random.default_rng(tokens).random((5, tokens)) < 0.5
    packed = pack_masks(covered)
    assert packed.dtype == np.uint32
    assert packed.shape == (5, -(-tokens // 32))
    assert_array_equal(reference.unpack_masks(packed, tokens), covered)


def test_bit_of_a_token_is_where_the_header_says() -> None:
    covered = np.zeros((1, 65), np.bool_)
    covered[0, [0, 33, 64]] = True
    assert pack_masks(covered).tolist() == [[1, 2, 1]]


@pytest.mark.parametrize(
    ("masks", "error"), [(np.zeros((2, 3), np.uint8), TypeError), (np.zeros(3, np.bool_), ValueError)]
)
def test_pack_masks_refuses(masks: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error, match="masks: expected"):
        pack_masks(masks)


# ---- what is refused

GOOD = dict(zip(("codes", "masks", "logits"), random_inputs(2, 3, 40, 5), strict=True))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"codes": GOOD["codes"].astype(np.int32)}, TypeError, "codes: expected a C-contiguous uint16"),
        ({"codes": GOOD["codes"][:, ::2]}, TypeError, "codes"),
        ({"codes": GOOD["codes"][0]}, ValueError, "codes"),
        ({"codes": np.full((3, 40), 5, np.uint16)}, ValueError, "codes below 5, got 5"),
        ({"masks": GOOD["masks"].astype(np.int64)}, TypeError, "masks"),
        ({"masks": np.ones((2, 1), np.uint32)}, ValueError, r"masks: expected shape \(masks, 2\)"),
        ({"masks": np.array([[1, 0], [0, 0]], np.uint32)}, ValueError, "none in mask 1"),
        ({"masks": np.array([[1, 0], [1, 1 << 8]], np.uint32)}, ValueError, "mask 1 has bits behind"),
        ({"logits": GOOD["logits"].astype(np.float64)}, TypeError, "logits"),
        ({"logits": np.zeros((2, 2, 5), np.float32)}, ValueError, "logits"),
        ({"out": np.zeros(2)}, TypeError, "out"),
        ({"out": np.zeros(3, np.float32)}, ValueError, "out"),
    ],
)
def test_score_refuses(change: dict[str, np.ndarray], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        masked_histogram_score(**{**GOOD, "out": np.zeros(2, np.float32), **change})


def test_histograms_refuse() -> None:
    codes, masks = GOOD["codes"], GOOD["masks"]
    with pytest.raises(ValueError, match="out: expected shape"):
        masked_histograms(codes, masks, 5, np.zeros((2, 3, 6), np.uint16))
    with pytest.raises(TypeError, match="out"):
        masked_histograms(codes, masks, 5, np.zeros((2, 3, 5), np.int64))
    with pytest.raises(ValueError, match="codes below 4"):
        masked_histograms(codes, masks, 4, np.zeros((2, 3, 4), np.uint16))
    with pytest.raises(ValueError, match="1 to 65535 entries"):
        masked_histograms(codes, masks, 0, np.zeros((2, 3, 0), np.uint16))
