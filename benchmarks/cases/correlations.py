"""Correlations of tokens against their neighbourhoods: FOD's kernel."""

from __future__ import annotations

import numpy as np

from benchmarks.cases.case import Case, Contestant, Floats, close_to, on_each_isa
from lad_edge.kernels import reference, symmetric_kl

HEADS, EPSILON = 8, np.float32(1e-4)


def fine_level() -> Case:
    """One layer of the level with 32x32 tokens."""
    return symmetric_kl_case(32, 256)


def coarse_level() -> Case:
    """One layer of the level with 16x16 tokens."""
    return symmetric_kl_case(16, 512)


def symmetric_kl_case(side: int, width: int) -> Case:
    """A grid of side x side tokens of `width` values."""
    rng = np.random.default_rng(0)
    queries, keys = (rng.normal(size=(side**2, width)).astype(np.float32) for _ in range(2))
    sigmas = rng.uniform(1.1e-5, 2, (side**2, 2 * HEADS)).astype(np.float32)
    out, square = np.empty(side**2, np.float32), np.empty((side**2, side**2), np.float32)

    def ours() -> Floats:
        out.fill(0)
        symmetric_kl(queries, keys, sigmas, heads=HEADS, side=side, weight=1.0, out=out)
        return out

    expect = close_to(reference.symmetric_kl(queries, keys, sigmas, heads=HEADS, side=side), 2e-5)
    contestants = on_each_isa(ours, expect) | {
        "numpy in place, one log": Contestant(lambda: by_numpy_in_place(queries, keys, sigmas, side, square), expect),
        "numpy, as the equation reads": Contestant(lambda: by_numpy(queries, keys, sigmas, side), expect),
        "numpy in float64, the reference": Contestant(
            lambda: reference.symmetric_kl(queries, keys, sigmas, heads=HEADS, side=side), expect
        ),
    }
    return Case(f"symmetric_kl: {side}x{side} tokens x {width}, {HEADS} heads", contestants)


def by_numpy(queries: Floats, keys: Floats, sigmas: Floats, side: int) -> Floats:
    """As the equation reads, head by head, in float32 with BLAS for the scores."""
    width, out = queries.shape[1] // HEADS, np.zeros(len(queries), np.float32)
    for h in range(HEADS):
        of_head = np.s_[:, h * width : (h + 1) * width]
        scores = queries[of_head] @ keys[of_head].T * np.float32(width**-0.5)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        s = powers / powers.sum(axis=1, keepdims=True)
        t = target(sigmas[:, 2 * h : 2 * h + 2], side)
        out += ((t - s) * (np.log(t + EPSILON) - np.log(s + EPSILON))).sum(axis=1)
    return np.asarray(out / np.float32(HEADS))


def by_numpy_in_place(queries: Floats, keys: Floats, sigmas: Floats, side: int, s: Floats) -> Floats:
    """The same with one logarithm of the quotient and few new arrays: the best numpy form we know. s: (L, L)."""
    width, out = queries.shape[1] // HEADS, np.zeros(len(queries), np.float32)
    for h in range(HEADS):
        of_head = np.s_[:, h * width : (h + 1) * width]
        np.matmul(queries[of_head] * np.float32(width**-0.5), keys[of_head].T, out=s)
        np.exp(np.subtract(s, s.max(axis=1, keepdims=True), out=s), out=s)
        np.multiply(s, 1 / s.sum(axis=1, keepdims=True), out=s)
        t = target(sigmas[:, 2 * h : 2 * h + 2], side)
        difference = t - s
        np.divide(np.add(t, EPSILON, out=t), np.add(s, EPSILON, out=s), out=t)
        out += np.einsum("ij,ij->i", difference, np.log(t, out=t))
    return np.asarray(out / np.float32(HEADS))


def target(sigmas: Floats, side: int) -> Floats:
    """(L, L): the outer products of the two normalised Gaussians of each token."""
    factors, grid = [], np.arange(side, dtype=np.float32)
    for centre, sigma in zip(np.divmod(np.arange(len(sigmas)), side), sigmas.T, strict=True):
        row = np.exp(np.float32(-0.5) * np.square((centre[:, None].astype(np.float32) - grid) / sigma[:, None]))
        factors.append(row / row.sum(axis=1, keepdims=True))
    return np.asarray((factors[0][:, :, None] * factors[1][:, None, :]).reshape(len(sigmas), -1))
