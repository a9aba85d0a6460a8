from __future__ import annotations

import threading

import numpy as np
import pytest
from codebooks import ODD, crowded, nearest, normal, star
from numpy.testing import assert_array_equal
from tolerances import CODES

from lad_edge.kernels import Codebook, Quantizer, _cpu, reference


def codes_of(top: Codebook, levels: list[Codebook], tokens: np.ndarray) -> np.ndarray:
    codes = np.full(tokens.shape[:2], 65535, np.uint16)
    assert Quantizer(top, levels)(tokens, codes) == 0
    return codes


def check(top: Codebook, levels: list[Codebook], tokens: np.ndarray) -> None:
    """Equal to float64, but for entries whose scores float32 cannot tell apart."""
    codes, expected = codes_of(top, levels, tokens), reference.quantize(top, levels, tokens)
    assert (codes[0] == expected[0]).mean() >= 1 - CODES.atol
    for i, (book, e) in enumerate(zip([top, *levels], tokens, strict=True)):
        scores = reference.book_scores(book, e, codes[0].astype(np.int64))
        chosen = np.take_along_axis(scores, codes[i][:, None].astype(np.int64), 1)[:, 0]
        assert (chosen >= scores.max(1) - CODES.rtol * np.abs(scores).max(1)).all()


@pytest.mark.parametrize("width", ODD)
@pytest.mark.parametrize("entries", ODD)
def test_flat_codes_equal_reference_for_odd_sizes(isa: str, width: int, entries: int) -> None:
    check(nearest(normal(entries, width)), [], normal(1, 50, width, seed=1))


@pytest.mark.parametrize("tokens", [*ODD, 48, 576])
def test_hierarchical_codes_equal_reference_for_odd_counts(isa: str, tokens: int) -> None:
    check(*star(token_width=33, width=17, entries=65), normal(3, tokens, 33, seed=5))


@pytest.mark.parametrize("token_width", ODD)
def test_hierarchical_codes_equal_reference_for_odd_widths(isa: str, token_width: int) -> None:
    check(*star(token_width, width=65, entries=33), normal(3, 31, token_width, seed=5))


def test_codes_of_clustered_tokens_are_exact_at_full_size(isa: str) -> None:
    """Without near-ties nothing may differ: each token lies near one entry."""
    rng = np.random.default_rng(0)
    entries = rng.normal(size=(512, 64)).astype(np.float32)
    wanted = rng.integers(0, 512, 2304)
    tokens = (entries[wanted] + rng.normal(0, 0.1, (2304, 64))).astype(np.float32)
    assert_array_equal(codes_of(nearest(entries), [], tokens[None])[0], wanted)


def test_random_codes_agree_with_float64_at_full_size(isa: str) -> None:
    top, levels = star(token_width=256, width=64, entries=512, levels=4)
    tokens = normal(5, 576, 256, seed=5)
    agree = codes_of(top, levels, tokens) == reference.quantize(top, levels, tokens)
    assert agree.mean() >= 1 - CODES.atol


# ---- methods.md 13.1: all forms are the nearest entry of the projected [e, z]


def direct_codes(top: Codebook, tokens: np.ndarray, projected: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """argmin_j |x - b_j|^2, in float64, without any of the algebra."""
    distance = ((projected[:, None, :] - entries[None].astype(np.float64)) ** 2).sum(-1)
    return distance.argmin(1)


def test_t_table_form_is_the_nearest_entry(isa: str) -> None:
    top = nearest(normal(33, 16))
    w_h, w_z, b = normal(12, 16, seed=1), normal(12, 16, seed=2), normal(12, seed=3)
    book = nearest(normal(31, 12, seed=4), projection=w_h, shift=top.entries @ w_z.T + b)
    tokens = normal(2, 97, 16, seed=5)
    codes = codes_of(top, [book], tokens)
    z = top.entries[codes[0]]
    projected = np.concatenate([tokens[1], z], 1).astype(np.float64) @ np.concatenate([w_h, w_z], 1).T + b
    assert_array_equal(codes[1], direct_codes(top, tokens[1], projected, book.entries))


def test_g_table_form_of_the_identity_is_the_nearest_entry(isa: str) -> None:
    top, entries = nearest(normal(33, 16)), normal(31, 32, seed=4)
    g = (-0.5 * np.square(top.entries[:, None].astype(np.float64) - entries[:, 16:]).sum(2)).astype(np.float32)
    book = Codebook(None, np.zeros((1, 16), np.float32), np.ascontiguousarray(entries[:, :16]), g)
    tokens = normal(2, 97, 16, seed=5)
    codes = codes_of(top, [book], tokens)
    whole = np.concatenate([tokens[1], top.entries[codes[0]]], 1).astype(np.float64)
    assert_array_equal(codes[1], direct_codes(top, tokens[1], whole, entries))


@pytest.mark.parametrize("width", [5, 64, 97])
@pytest.mark.parametrize("spread", [1e-3, 1e-4, 1e-5])
def test_entries_that_products_cannot_tell_apart_are_told_apart(isa: str, width: int, spread: float) -> None:
    """Scores of 1e-10 beside products of 400: a search by products alone chooses another entry for most tokens."""
    book, tokens = crowded(width, 200, spread)
    assert_array_equal(codes_of(book, [], tokens), reference.quantize(book, [], tokens))
    products = tokens[0] @ book.entries.T - 0.5 * np.square(book.entries).sum(1)
    assert spread > 1e-4 or (products.argmax(1) != reference.quantize(book, [], tokens)[0]).mean() > 0.1


def test_a_prior_decides_between_entries_that_lie_together(isa: str) -> None:
    book, tokens = crowded(33, 200, 1e-5)
    prior = (1e-3 * normal(1, 200, seed=9)).astype(np.float32)
    book = book._replace(prior=prior)
    assert_array_equal(codes_of(book, [], tokens), reference.quantize(book, [], tokens))


# ---- ties, memories, values that are not finite


@pytest.mark.parametrize("entries", [1, 15, 16, 17, 63, 64, 65, 200])
def test_ties_go_to_the_lowest_index(isa: str, entries: int) -> None:
    same = nearest(np.ones((entries, 5), np.float32))
    assert_array_equal(codes_of(same, [], normal(1, 13, 5)), np.zeros((1, 13)))
    book = normal(entries, 5)
    twice = nearest(np.concatenate([book, book]))
    tokens = normal(1, 97, 5, seed=1)
    assert_array_equal(codes_of(twice, [], tokens), codes_of(nearest(book), [], tokens))


def test_memories_are_the_rows_of_the_codes(isa: str) -> None:
    top, levels = star(33, 17, 65)
    tokens = normal(3, 50, 33, seed=5)
    codes, memory = np.empty((3, 50), np.uint16), np.full((2, 50, 7), np.nan, np.float32)
    Quantizer(top, levels)(tokens, codes, memory)
    for i, book in enumerate(levels):
        assert_array_equal(memory[i], book.memory[codes[1 + i]])


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("projected", [False, True])
def test_tokens_with_nonfinite_values_get_code_0_and_are_counted(isa: str, value: float, projected: bool) -> None:
    book = nearest(normal(97, 9), projection=normal(9, 9, seed=1) if projected else None)
    book.entries[:, 3] = 0  # infinity times zero must not be overlooked either
    tokens = normal(1, 50, 9, seed=5)
    clean = codes_of(book, [], tokens)
    bad = tokens.copy()
    bad[0, 7, 3] = bad[0, 49, 0] = bad[0, 49, 8] = value
    codes = np.empty((1, 50), np.uint16)
    assert Quantizer(book, [])(bad, codes) == 3
    clean[0, [7, 49]] = 0
    assert_array_equal(codes, clean)


def test_overflow_of_finite_tokens_is_counted(isa: str) -> None:
    tokens = normal(1, 5, 9)
    tokens[0, 2] = 3e38
    codes = np.empty((1, 5), np.uint16)
    assert Quantizer(nearest(normal(33, 9, seed=1) * 10), [])(tokens, codes) == 1
    assert codes[0, 2] == 0


def test_all_instruction_sets_give_the_same_codes() -> None:
    quantizer = Quantizer(*star(65, 33, 97))
    tokens = normal(3, 500, 65, seed=5)
    results, before = [], _cpu.isa()
    for name in _cpu.isas():
        _cpu.use_isa(name)
        codes = np.empty((3, 500), np.uint16)
        quantizer(tokens, codes)
        results.append(codes.tobytes())
    _cpu.use_isa(before)
    assert len(set(results)) == 1


def test_tables_are_copied() -> None:
    top, levels = star(33, 17, 65)
    tokens = normal(3, 50, 33, seed=5)
    quantizer, expected = Quantizer(top, levels), codes_of(top, levels, tokens)
    for book in (top, *levels):
        for table in (book.projection, book.shift, book.entries):
            table[:] = 0
    codes = np.empty((3, 50), np.uint16)
    quantizer(tokens, codes)
    assert_array_equal(codes, expected)


def test_threads_may_share_one() -> None:
    quantizer = Quantizer(*star(33, 17, 65))
    inputs = [normal(3, 100 + 31 * i, 33, seed=i) for i in range(4)]
    expected = [np.empty(tokens.shape[:2], np.uint16) for tokens in inputs]
    for tokens, codes in zip(inputs, expected, strict=True):
        quantizer(tokens, codes)
    right: list[bool] = []

    def work(i: int) -> None:
        codes = np.empty_like(expected[i])
        for _ in range(50):
            quantizer(inputs[i], codes)
            right.append(bool((codes == expected[i]).all()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 200


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"entries": np.zeros((5, 4))}, TypeError, r"levels\[0\].entries: expected a C-contiguous float32"),
        ({"entries": np.zeros((5, 8), np.float32)[:, ::2]}, TypeError, "entries"),
        ({"entries": None}, TypeError, "entries: expected a numpy array, got None"),
        ({"entries": np.zeros((0, 4), np.float32)}, ValueError, "entries"),
        ({"entries": np.zeros((65536, 4), np.float32)}, ValueError, "1 to 65535 rows, got 65536"),
        ({"shift": np.zeros((1, 3), np.float32)}, ValueError, r"shift: expected shape \(1, 4\) or \(6, 4\)"),
        ({"shift": np.zeros((5, 4), np.float32)}, ValueError, "shift"),
        ({"prior": np.zeros((1, 4), np.float32)}, ValueError, r"prior: expected shape \(1, 5\) or \(6, 5\)"),
        ({"prior": np.full((1, 5), np.nan, np.float32)}, ValueError, "prior: expected finite"),
        ({"projection": np.zeros((3, 9), np.float32)}, ValueError, "projection: expected 4 rows"),
        ({"projection": np.zeros((4, 9), np.float32)}, ValueError, "tokens of width 4, as the top codebook, got 9"),
        ({"memory": np.zeros((4, 9), np.float32)}, ValueError, "memory: expected 5 rows"),
    ],
)
def test_wrong_tables_are_refused(change: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Quantizer(nearest(normal(6, 4)), [nearest(normal(5, 4))._replace(**change)])


def test_wrong_hierarchies_are_refused() -> None:
    top, level = nearest(normal(6, 4)), nearest(normal(5, 4))
    remembered = level._replace(memory=normal(5, 3))
    with pytest.raises(TypeError, match=r"top: expected a lad_edge\.kernels\.Codebook, got ndarray"):
        Quantizer(top.entries, [])
    with pytest.raises(ValueError, match=r"top\.memory: expected None"):
        Quantizer(top._replace(memory=normal(6, 3)), [])
    with pytest.raises(ValueError, match=r"levels\[1\].memory: expected memories of one width"):
        Quantizer(top, [level, remembered])
    with pytest.raises(ValueError, match=r"top\.prior"):
        Quantizer(top._replace(prior=normal(6, 6)), [])


@pytest.mark.parametrize(
    ("tokens", "codes", "memory", "error", "message"),
    [
        (np.zeros((2, 9, 4)), np.zeros((2, 9), np.uint16), None, TypeError, "tokens"),
        (np.zeros((1, 9, 4), np.float32), np.zeros((2, 9), np.uint16), None, ValueError, r"tokens.*\(2, N, 4\)"),
        (np.zeros((2, 9, 5), np.float32), np.zeros((2, 9), np.uint16), None, ValueError, "tokens"),
        (np.zeros((2, 0, 4), np.float32), np.zeros((2, 0), np.uint16), None, ValueError, "tokens"),
        (np.zeros((2, 9, 4), np.float32), np.zeros((2, 9), np.int32), None, TypeError, "codes_out"),
        (np.zeros((2, 9, 4), np.float32), np.zeros((2, 8), np.uint16), None, ValueError, "codes_out"),
        (np.zeros((2, 9, 4), np.float32), np.zeros((2, 9), np.uint16), np.zeros((1, 9, 3)), TypeError, "memory_out"),
        (
            np.zeros((2, 9, 4), np.float32),
            np.zeros((2, 9), np.uint16),
            np.zeros((1, 9, 2), np.float32),
            ValueError,
            "memory_out",
        ),
    ],
)
def test_wrong_calls_are_refused(
    tokens: np.ndarray, codes: np.ndarray, memory: np.ndarray | None, error: type[Exception], message: str
) -> None:
    quantizer = Quantizer(nearest(normal(6, 4)), [nearest(normal(5, 4), memory=normal(5, 3))])
    with pytest.raises(error, match=message):
        quantizer(tokens, codes, memory)


def test_memories_that_are_not_there_are_refused() -> None:
    quantizer = Quantizer(nearest(normal(6, 4)), [])
    with pytest.raises(ValueError, match="have no memory"):
        quantizer(np.zeros((1, 9, 4), np.float32), np.zeros((1, 9), np.uint16), np.zeros((0, 9, 3), np.float32))
