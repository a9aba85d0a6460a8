"""Anomaly maps to a score: fusion, enlarging and blurring, and the quantiles that calibrate them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cases.case import Case, Contestant, Floats, close_to, on_each_isa
from lad_edge.kernels import fuse, project_maps, quantiles, reference
from lad_edge.kernels.resampling import Border, blurred_bilinear


class Fusion(TypedDict):
    """What `fuse` and its reference are told beside the sizes."""

    scale: tuple[float, float]
    offset: tuple[float, float]
    sigmoid: bool
    border: int
    border_mode: str


FUSION: Fusion = {
    "scale": (30.0, 20.0),
    "offset": (-0.1, -0.2),
    "sigmoid": False,
    "border": 4,
    "border_mode": "zero",
}
SCALE, OFFSET, BORDER = FUSION["scale"], FUSION["offset"], FUSION["border"]

# score, structural, logical, and the full map where there is one
Scored: TypeAlias = tuple[Sequence[float], Floats | None]


def fuse_with_map() -> Case:
    """EfficientAD's maps to the size of the camera."""
    out = np.empty((1024, 1280), np.float32)
    return fuse_case("1280x1024, with the map", out, out)


def fuse_without_map() -> Case:
    """EfficientAD's maps to the size of the network's input, scores only."""
    return fuse_case("256x256, without the map", np.empty((256, 256), np.float32), None)


def fuse_case(to: str, enlarged: Floats, out: Floats | None) -> Case:
    """enlarged: where OpenCV puts the full map; out: where we do, if at all."""
    rng = np.random.default_rng(0)
    structural, logical = (rng.random((56, 56), np.float32) * np.float32(0.02) for _ in range(2))
    size = (enlarged.shape[0], enlarged.shape[1])
    wanted, full = reference.fuse(structural, logical, **FUSION, size=size)

    def ours() -> Scored:
        found = fuse(structural, logical, **FUSION, size=size, out=out)
        return (found.score, found.structural, found.logical), out

    def expect(atol: float, got: Scored) -> None:
        tops, fused = got
        close_to((wanted.score, wanted.structural, wanted.logical)[: len(tops)], atol)(tops)
        if fused is not None:
            close_to(full, atol)(fused)

    close = partial(expect, 1e-5)
    contestants = on_each_isa(ours, partial(expect, 5e-7)) | {
        "OpenCV, same outputs": Contestant(lambda: fuse_by_opencv(structural, logical, enlarged), close),
        "OpenCV, fused map only": Contestant(lambda: fuse_first_by_opencv(structural, logical, enlarged), close),
    }
    moved = 2 * structural.nbytes + (0 if out is None else out.nbytes)
    return Case(f"fuse: two 56x56 maps -> {to}, three maxima", contestants, bytes_moved=moved)


def padded(low: Floats, offset: float) -> Floats:
    """With a border of zeros, normalised before and shifted after it."""
    return np.asarray(
        cv2.copyMakeBorder(low, *(BORDER,) * 4, cv2.BORDER_CONSTANT, value=0) + np.float32(offset), np.float32
    )


def fuse_by_opencv(structural: Floats, logical: Floats, out: Floats) -> Scored:
    """The same outputs as `fuse` with OpenCV and numpy."""
    size = (out.shape[1], out.shape[0])
    low = [padded(np.float32(SCALE[i]) * m, OFFSET[i]) for i, m in enumerate((structural, logical))]
    cv2.resize(0.5 * low[0] + 0.5 * low[1], size, dst=out, interpolation=cv2.INTER_LINEAR)
    tops = [cv2.minMaxLoc(cv2.resize(m, size, interpolation=cv2.INTER_LINEAR))[1] for m in low]
    return (cv2.minMaxLoc(out)[1], *tops), out


def fuse_first_by_opencv(structural: Floats, logical: Floats, out: Floats) -> Scored:
    """Without the maxima of the two branches: less than `fuse` gives."""
    low = np.float32(0.5 * SCALE[0]) * structural + np.float32(0.5 * SCALE[1]) * logical
    low = padded(low, 0.5 * sum(OFFSET))
    cv2.resize(low, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_LINEAR)
    return (cv2.minMaxLoc(out)[1],), out


def ulsad() -> Case:
    """One merged map."""
    return project_case("ULSAD", (32,), "reflect101", corners=False)


def fod() -> Case:
    """Maps of two levels."""
    return project_case("FOD", (32, 16), "symmetric", corners=True)


def project_case(name: str, sides: Sequence[int], border: Border, *, corners: bool) -> Case:
    """Square maps to 256x256 with a blur of sigma 4."""
    rng = np.random.default_rng(0)
    maps = [rng.random((side, side), np.float32) for side in sides]
    enlarge = [blurred_bilinear(side, 256, 4.0, border=border, corners=corners) for side in sides]
    flipped = [np.ascontiguousarray(matrix.T) for matrix in enlarge]
    weights, out, part = [0.5] * len(maps), np.empty((256, 256), np.float32), np.empty((256, 256), np.float32)

    def ours() -> Floats:
        project_maps(maps, enlarge, enlarge, weights, 0.1, out)
        return out

    def by_numpy() -> Floats:
        np.matmul((np.float32(0.5) * enlarge[0]) @ maps[0], flipped[0], out=out)
        for i in range(1, len(maps)):
            np.add(out, np.matmul((np.float32(0.5) * enlarge[i]) @ maps[i], flipped[i], out=part), out=out)
        np.add(out, np.float32(0.1), out=out)
        np.unravel_index(out.argmax(), out.shape)
        return out

    expect = close_to(reference.project_maps(maps, enlarge, enlarge, weights, 0.1)[1], 1e-6)
    contestants = on_each_isa(ours, expect) | {"numpy, matmul and argmax": Contestant(by_numpy, expect)}
    title = f"project_maps: {name}, {' and '.join(f'{s}x{s}' for s in sides)} -> 256x256, blurred, with its maximum"
    return Case(title, contestants, bytes_moved=sum(m.nbytes for m in (*maps, *enlarge, *enlarge, out)))


def quantiles_of_validation() -> Case:
    """The calibration of 54 validation images."""
    maps = np.random.default_rng(0).gamma(2, 0.01, (54, 56, 56)).astype(np.float32)
    q = (0.9, 0.995)

    def by_numpy() -> NDArray[np.float32]:
        return np.asarray(np.quantile(maps, q))

    wanted = reference.quantiles(maps, q)
    contestants = {
        "native": Contestant(lambda: quantiles(maps, q), close_to(wanted, 1e-12)),
        "numpy": Contestant(by_numpy, close_to(wanted, 1e-7)),
    }
    return Case("quantiles: 0.9 and 0.995 of 54 maps of 56x56", contestants, bytes_moved=2 * maps.nbytes)
