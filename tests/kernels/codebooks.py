"""Codebooks with seeded tables, for the tests of both quantisers."""

from __future__ import annotations

import numpy as np

from lad_edge.kernels import Codebook

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def nearest(entries: np.ndarray, **tables: np.ndarray | None) -> Codebook:
    """A codebook whose best entry is the nearest one."""
    bias = (-0.5 * (entries.astype(np.float64) ** 2).sum(1))[None].astype(np.float32)
    plain = {"projection": None, "shift": np.zeros((1, entries.shape[1]), np.float32), "bias": bias, "memory": None}
    return Codebook(**{**plain, "entries": entries, **tables})


def star(
    token_width: int, width: int, entries: int, levels: int = 2, memory: int = 7
) -> tuple[Codebook, list[Codebook]]:
    """A hierarchy with projections, as methods.md 6.2 has it."""
    top = nearest(normal(entries, width), projection=normal(width, token_width, seed=1), shift=normal(1, width, seed=2))
    books = [
        nearest(
            normal(entries, width, seed=10 + i),
            projection=normal(width, token_width, seed=20 + i),
            shift=normal(entries, width, seed=30 + i),
            memory=normal(entries, memory, seed=40 + i),
        )
        for i in range(levels)
    ]
    return top, books
