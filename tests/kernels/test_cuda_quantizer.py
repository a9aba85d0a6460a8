"""CUDA `Quantizer` gives the codes of the reference, but for entries whose scores float32 cannot tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from codebooks import ODD, crowded, nearest, normal, star
from cuda_device import HostDevice
from numpy.testing import assert_array_equal
from tolerances import CODES

from lad_edge.kernels import Codebook, reference


def g_tables(width: int, entries: int) -> tuple[Codebook, list[Codebook]]:
    """One level behind the identity: the prior depends on the top code."""
    return nearest(normal(entries, width)), [nearest(normal(31, width, seed=4), prior=normal(entries, 31, seed=5))]


def run(
    device: HostDevice, top: Codebook, levels: list[Codebook], tokens: np.ndarray, memory: type | None = None
) -> tuple[np.ndarray, np.ndarray | None, int]:
    plan = device.kernels.Quantizer(top, levels)
    tables, workspace = device.workspace(plan.table_bytes), device.workspace(plan.workspace_bytes(tokens.shape[1]))
    plan.prepare(tables, stream=device.stream)
    codes, nonfinite = device.empty(tokens.shape[:2], np.uint16), device.counter()
    shape = (len(levels), tokens.shape[1], 0 if not levels or levels[0].memory is None else levels[0].memory.shape[1])
    rows = None if memory is None else device.empty(shape, memory)
    plan(device.put(tokens), codes, rows, nonfinite=nonfinite, workspace=workspace, stream=device.stream)
    device.get(workspace)
    return device.get(codes), None if rows is None else device.get(rows), int(device.get(nonfinite)[0])


def check(device: HostDevice, top: Codebook, levels: list[Codebook], tokens: np.ndarray) -> None:
    codes, _, nonfinite = run(device, top, levels, tokens)
    assert nonfinite == 0
    wide = tokens.astype(np.float32)
    assert (codes[0] == reference.quantize(top, levels, wide)[0]).mean() >= 1 - CODES.atol
    for i, (book, e) in enumerate(zip([top, *levels], wide, strict=True)):
        scores = reference.book_scores(book, e, codes[0].astype(np.int64))
        chosen = np.take_along_axis(scores, codes[i][:, None].astype(np.int64), 1)[:, 0]
        assert (chosen >= scores.max(1) - CODES.rtol * np.abs(scores).max(1)).all()


@pytest.mark.parametrize("width", ODD)
@pytest.mark.parametrize("entries", [*ODD, 513])
def test_flat_codes_for_odd_sizes(device: HostDevice, width: int, entries: int) -> None:
    check(device, nearest(normal(entries, width)), [], normal(1, 17, width, seed=1))


@pytest.mark.parametrize("tokens", ODD)
def test_hierarchical_codes_for_odd_counts(device: HostDevice, tokens: int) -> None:
    check(device, *star(token_width=33, width=17, entries=65), normal(3, tokens, 33, seed=5))
    check(device, *g_tables(width=33, entries=15), normal(2, tokens, 33, seed=5))


@pytest.mark.parametrize("token_width", ODD)
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_hierarchical_codes_for_odd_widths(device: HostDevice, token_width: int, kind: type) -> None:
    check(device, *star(token_width, width=65, entries=33), normal(3, 31, token_width, seed=5).astype(kind))


def test_codes_of_clustered_tokens_are_exact(device: HostDevice) -> None:
    """Without near-ties nothing may differ: each token lies near one entry."""
    rng = np.random.default_rng(0)
    entries = rng.normal(size=(1030, 64)).astype(np.float32)
    wanted = rng.integers(0, len(entries), 200)
    tokens = (entries[wanted] + rng.normal(0, 0.1, (200, 64))).astype(np.float32)
    assert_array_equal(run(device, nearest(entries), [], tokens[None])[0][0], wanted)


@pytest.mark.parametrize("width", [5, 64, 97])
@pytest.mark.parametrize("spread", [1e-3, 1e-5])
def test_entries_that_products_cannot_tell_apart_are_told_apart(device: HostDevice, width: int, spread: float) -> None:
    book, tokens = crowded(width, 200, spread)
    for of in (book, book._replace(prior=(1e-3 * normal(1, 200, seed=9)).astype(np.float32))):
        assert_array_equal(run(device, of, [], tokens)[0], reference.quantize(of, [], tokens))


def test_random_codes_at_full_size(device: HostDevice) -> None:
    check(device, *star(token_width=256, width=64, entries=512), normal(3, 144, 256, seed=5))


@pytest.mark.parametrize("entries", [1, 15, 64, 65, 200, 300])
def test_ties_go_to_the_lowest_index(device: HostDevice, entries: int) -> None:
    same = nearest(np.ones((entries, 5), np.float32))
    assert_array_equal(run(device, same, [], normal(1, 13, 5))[0], np.zeros((1, 13)))
    book = normal(entries, 5)
    twice = nearest(np.concatenate([book, book]))
    tokens = normal(1, 97, 5, seed=1)
    assert_array_equal(run(device, twice, [], tokens)[0], run(device, nearest(book), [], tokens)[0])


@pytest.mark.parametrize("width", [7, 8, 20])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("tokens", [1, 33])
def test_memories_are_the_rows_of_the_codes(device: HostDevice, width: int, kind: type, tokens: int) -> None:
    top, levels = star(33, 17, 65, memory=width)
    codes, memory, _ = run(device, top, levels, normal(3, tokens, 33, seed=5), kind)
    assert memory is not None
    for i, book in enumerate(levels):
        assert book.memory is not None
        assert_array_equal(memory[i], book.memory[codes[1 + i]].astype(kind))


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("projected", [False, True])
def test_tokens_with_nonfinite_values_get_code_0_and_are_counted(
    device: HostDevice, value: float, projected: bool
) -> None:
    book = nearest(normal(97, 9), projection=normal(9, 9, seed=1) if projected else None)
    book.entries[:, 3] = 0  # infinity times zero must not be overlooked either
    tokens = normal(1, 50, 9, seed=5)
    clean = run(device, book, [], tokens)[0]
    tokens[0, 7, 3] = tokens[0, 49, 0] = tokens[0, 49, 8] = value
    codes, _, nonfinite = run(device, book, [], tokens)
    assert nonfinite == 3
    clean[0, [7, 49]] = 0
    assert_array_equal(codes, clean)


def test_overflow_of_finite_tokens_is_counted(device: HostDevice) -> None:
    tokens = normal(1, 5, 9)
    tokens[0, 2] = 3e38
    codes, _, nonfinite = run(device, nearest(normal(33, 9, seed=1) * 10), [], tokens)
    assert (codes[0, 2], nonfinite) == (0, 1)


def test_wrong_calls_are_refused(device: HostDevice) -> None:
    plan = device.kernels.Quantizer(nearest(normal(6, 4)), [nearest(normal(5, 4))])
    plan.prepare(device.workspace(plan.table_bytes), stream=device.stream)
    buffers = {"nonfinite": device.counter(), "workspace": device.workspace(0), "stream": device.stream}
    tokens, codes = device.zeros((2, 9, 4), np.float32), device.empty((2, 9), np.uint16)
    with pytest.raises(ValueError, match=r"tokens: expected shape \(2, N, 4\)"):
        plan(device.zeros((1, 9, 4), np.float32), codes, **buffers)
    with pytest.raises(TypeError, match=r"codes_out: .*<u2, got <i4"):
        plan(tokens, device.empty((2, 9), np.int32), **buffers)
    with pytest.raises(ValueError, match="have no memory"):
        plan(tokens, codes, device.empty((1, 9, 3), np.float32), **buffers)
    with pytest.raises(ValueError, match=r"top\.memory: expected None"):
        device.kernels.Quantizer(nearest(normal(6, 4), memory=normal(6, 3)), [])
