"""Codebooks with seeded tables, for the tests of both quantisers."""

from __future__ import annotations

import numpy as np

from lad_edge.kernels import Codebook

ODD = (1, 15, 16, 17, 31, 33, 64, 65, 97)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def nearest(entries: np.ndarray, **tables: np.ndarray | None) -> Codebook:
    """A codebook whose best entry is the nearest one."""
    plain = {"projection": None, "shift": np.zeros((1, entries.shape[1]), np.float32)}
    return Codebook(**{**plain, "entries": entries, **tables})


def crowded(width: int, entries: int, spread: float) -> tuple[Codebook, np.ndarray]:
    """Half of the entries within `spread` of a point far from the middle of all, and (1, 97, width) tokens among them."""
    rng, point = np.random.default_rng(0), 2 * normal(width, seed=3)
    near, far = (normal(count, width, seed=count) for count in (entries // 2, entries - entries // 2))
    tokens = point + spread * rng.normal(size=(97, width))
    return nearest(np.concatenate([point + spread * near, far])), tokens.astype(np.float32)[None]


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
