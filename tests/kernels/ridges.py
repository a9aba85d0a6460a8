"""Tables of masked ridges for the tests of the CPU and the CUDA kernel."""

from __future__ import annotations

import numpy as np

from lad_edge.kernels import RidgeTables


def normal(*shape: int, size: float = 1.0, seed: int = 0) -> np.ndarray:
    return (size * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def random_tables(side: int, channels: int, r: int, q: int) -> RidgeTables:
    """Every product of order 1; directions take away up to half of a length, as a gamma of 1/4 would."""
    regions, root = side * side // 4, channels**0.5
    short = 0.5 / (q**0.5 + root)
    return RidgeTables(
        mean=normal(regions, 4, channels, seed=1),
        scale=np.exp(normal(channels, seed=2)),
        context=normal(regions, r, channels, size=2 / (root * regions**0.5), seed=3),
        prediction=normal(regions, 4, r, channels, size=r**-0.5, seed=4),
        whitening=normal(channels, channels, size=1 / root, seed=5),
        fine_directions=normal(regions, 4, q, channels, size=short, seed=6),
        coarse_directions=normal(regions, q, channels, size=short, seed=7),
        gain=np.array([0.5, 1.0, 2.0], np.float32),
    )


def plain_tables(side: int, channels: int) -> RidgeTables:
    """Nothing is expected of any cell but 0, and all channels count alike: distances are lengths."""
    zeros = {name: np.zeros_like(table) for name, table in random_tables(side, channels, 1, 1)._asdict().items()}
    ones = {"scale": np.ones(channels), "whitening": np.eye(channels), "gain": np.ones(3)}
    return RidgeTables(**zeros | {name: table.astype(np.float32) for name, table in ones.items()})


# What no ridge takes instead of its table, for random_tables(4, 3, 2, 5).
WRONG_TABLES: list[tuple[dict[str, object], type[Exception], str]] = [
    ({"mean": np.zeros((4, 4, 3))}, TypeError, r"tables\.mean: expected a C-contiguous float32"),
    ({"mean": np.zeros((4, 4, 6), np.float32)[..., ::2]}, TypeError, "mean.*with strides"),
    ({"context": None}, TypeError, "context: expected a numpy array, got NoneType"),
    ({"mean": np.zeros((4, 3), np.float32)}, ValueError, r"mean: expected shape \(4, 4, 3\), got \(4, 3\)"),
    ({"scale": np.zeros(4, np.float32)}, ValueError, r"scale: expected shape \(3\), got \(4,\)"),
    ({"context": np.zeros((4, 3), np.float32)}, ValueError, r"context: expected shape \(regions, r, C\)"),
    ({"context": np.zeros((4, 0, 3), np.float32)}, ValueError, "from 1 to 4096"),
    (
        {"context": np.zeros((5, 2, 3), np.float32)},
        ValueError,
        "context: expected a square number of regions.*got 5",
    ),
    (
        {"context": np.zeros((0, 2, 3), np.float32)},
        ValueError,
        "context: expected a square number of regions.*got 0",
    ),
    ({"prediction": np.zeros((4, 4, 3, 3), np.float32)}, ValueError, r"prediction: expected shape \(4, 4, 2, 3\)"),
    ({"whitening": np.zeros((2, 3), np.float32)}, ValueError, r"whitening: expected shape \(3, 3\), got \(2, 3\)"),
    ({"fine_directions": np.zeros((4, 4, 1, 3), np.float32)}, ValueError, r"fine_directions: .* \(4, 4, 5, 3\)"),
    ({"coarse_directions": np.zeros((1, 5, 3), np.float32)}, ValueError, r"coarse_directions: .* \(4, 5, 3\)"),
    ({"gain": np.array([1, -1, 1], np.float32)}, ValueError, "gain: expected no factor below 0"),
    ({"gain": np.array([1, np.nan, 1], np.float32)}, ValueError, "gain: expected finite numbers"),
    ({"whitening": np.full((3, 3), np.inf, np.float32)}, ValueError, "whitening: expected finite numbers"),
]
