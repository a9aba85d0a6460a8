"""Two feature maps to an anomaly map."""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.cases.case import Case, Contestant, Floats, close_to, on_each_isa
from lad_edge.kernels import distance_map, reference


def features(side: int) -> tuple[Floats, Floats]:
    """Two maps of 384 channels."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(384, side, side)).astype(np.float32) for _ in range(2))
    return a, b


def mean_square() -> Case:
    """EfficientAD's maps."""
    a, b = features(56)
    out, difference = np.empty((56, 56), np.float32), np.empty_like(a)
    flat = difference.reshape(384, -1)

    def ours() -> Floats:
        distance_map(a, b, out=out)
        return out

    def by_numpy() -> Floats:
        np.subtract(a, b, out=difference)
        return np.asarray(np.einsum("chw,chw->hw", difference, difference) / np.float32(384))

    def by_opencv() -> Floats:
        cv2.absdiff(a.reshape(384, -1), b.reshape(384, -1), dst=flat)
        return np.reshape(cv2.reduce(cv2.multiply(flat, flat, dst=flat), 0, cv2.REDUCE_AVG), (56, 56))

    expect = close_to(reference.distance_map(a, b), 1e-5)
    contestants = on_each_isa(ours, expect) | {
        "numpy einsum": Contestant(by_numpy, expect),
        "OpenCV": Contestant(by_opencv, expect),
    }
    title = "distance_map: mean square over 384 channels, 56x56"
    return Case(title, contestants, bytes_moved=a.nbytes + b.nbytes + out.nbytes)


def mean_square_and_cosine() -> Case:
    """ULSAD's maps."""
    a, b = features(64)
    out, difference = np.empty((64, 64), np.float32), np.empty_like(a)

    def ours() -> Floats:
        distance_map(a, b, cosine=0.5, out=out)
        return out

    def by_numpy() -> Floats:
        np.subtract(a, b, out=difference)
        square, aa, bb, ab = (np.einsum("chw,chw->hw", x, y) for x, y in ((difference,) * 2, (a, a), (b, b), (a, b)))
        norms = np.maximum(np.sqrt(aa), np.float32(1e-8)) * np.maximum(np.sqrt(bb), np.float32(1e-8))
        return np.asarray(square / np.float32(384) + np.float32(0.5) * (1 - ab / norms))

    expect = close_to(reference.distance_map(a, b, cosine=0.5), 1e-5)
    contestants = on_each_isa(ours, expect) | {"numpy einsum": Contestant(by_numpy, expect)}
    title = "distance_map: mean square and cosine over 384 channels, 64x64"
    return Case(title, contestants, bytes_moved=a.nbytes + b.nbytes + out.nbytes)
