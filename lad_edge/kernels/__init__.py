"""Arrays in, arrays out: the hot paths, native on the CPU; reference.py says in numpy what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    from lad_edge.kernels import _cpu, _regions
    from lad_edge.kernels._cpu import (
        MaskedRidge,
        Preprocess,
        Quantizer,
        distance_map,
        masked_histogram_score,
        masked_histograms,
        symmetric_kl,
    )
except ImportError as exc:
    raise ImportError(
        "lad-edge: the native kernels are not built for this Python; in the source folder run "
        "`pip install -e .` (needs a C++17 compiler), or install a wheel: `pip install lad-edge`"
    ) from exc

__all__ = [
    "Codebook",
    "Fused",
    "LabelledRegion",
    "MaskedRidge",
    "Preprocess",
    "Projected",
    "Quantizer",
    "RidgeTables",
    "distance_map",
    "fuse",
    "fuse_places",
    "label_regions",
    "masked_histogram_score",
    "masked_histograms",
    "pack_masks",
    "project_maps",
    "quantiles",
    "symmetric_kl",
]


class Codebook(NamedTuple):
    """The tables of one codebook of a `Quantizer`, all float32 and C-contiguous; D values a token, K entries of dq.

    Under the top code i, entry j scores -|x - entries[j]|^2 / 2 + prior[i, j] for token e, where x = projection e + shift[i].
    A shift or prior of one row holds for every top code. The nearest entry (methods.md 6.7) is the best one of either
    form: T table: shift = W_z z_i + b, no prior; G table, where nothing is projected: shift of one zero row,
    prior = -|z_i - b^z_j|^2 / 2. Another origin than zero, such as the middle of the entries, rounds less.

    projection: (dq, D), or None for the identity, with dq = D. shift: (K_top, dq) or (1, dq). entries: (K, dq).
    prior: (K_top, K) or (1, K), or None for zeros. memory: (K, width), the rows that the decoder is given for the codes, or None.
    """

    projection: NDArray[np.float32] | None
    shift: NDArray[np.float32]
    entries: NDArray[np.float32]
    prior: NDArray[np.float32] | None = None
    memory: NDArray[np.float32] | None = None


class RidgeTables(NamedTuple):
    """What the masked ridge knows of good parts, all float32 and C-contiguous; C channels, context of r, q directions.

    A picture is side x side cells, side even; 2 x 2 of them are a region. Regions: in row-major order of their
    (side / 2, side / 2) grid; the cells of one: upper left, upper right, lower left, lower right. Each region is hidden
    in turn and predicted from all others by way of r numbers; `reference.masked_ridge` says it in a few lines.

    mean: (regions, 4, C), what good parts have at each place. scale: (C,), one over the standard deviation of each channel.
    context: (regions, r, C), what the mean of a region's four cells adds to the context. prediction: (regions, 4, r, C),
    from the context of all other regions to the cells of this one. whitening: (C, C); a residual (row) times this is
    white: what is left of good parts has the identity as its pooled covariance. fine_directions: (regions, 4, q, C), in
    white coordinates, where the residual of good parts varies at this cell, times the root of the share gamma by which
    that shortens the distance. coarse_directions: (regions, q, C), the same of the mean of a region's four residuals.
    gain: (3,), factors of the squared distances: fine, coarse, own; none below 0.
    (Ours: LADMIM's masked modelling, methods.md 6, in closed form.)
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    context: NDArray[np.float32]
    prediction: NDArray[np.float32]
    whitening: NDArray[np.float32]
    fine_directions: NDArray[np.float32]
    coarse_directions: NDArray[np.float32]
    gain: NDArray[np.float32]


class Fused(NamedTuple):
    """What `fuse` says of two maps; higher is more anomalous.

    score: max of the upsampled fused map, at pixel (y_px, x_px), the lowest index on ties; NaN at (-1, -1) if a cell
    of either map is not finite. structural, logical: max of each upsampled normalised map, before the sigmoid; NaN if
    a cell of its own is not finite. nonfinite: number of cells that are not finite, raw or normalised.
    """

    score: float
    y_px: int
    x_px: int
    structural: float
    logical: float
    nonfinite: int


class Projected(NamedTuple):
    """What `project_maps` says of its output; higher is more anomalous.

    score: max of the output, at pixel (y_px, x_px), the lowest index on ties; NaN at (-1, -1) if nonfinite is not 0.
    nonfinite: number of cells of the maps that are not finite, or, if all are, of pixels of the output.
    """

    score: float
    y_px: int
    x_px: int
    nonfinite: int


class LabelledRegion(NamedTuple):
    """A connected area above the threshold, in pixels of the map; the fields of `lad_edge.values.Region`."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    area_px: int
    peak: float
    peak_x_px: int
    peak_y_px: int


def fuse(
    structural: NDArray[np.float32],
    logical: NDArray[np.float32],
    *,
    scale: tuple[float, float],
    offset: tuple[float, float],
    sigmoid: bool,
    border: int,
    border_mode: str,
    size: tuple[int, int],
    out: NDArray[np.float32] | None = None,
) -> Fused:
    """Normalise two maps, fuse them, upsample to full size and take the maximum, in one pass.

    structural, logical: float32 (h, w) or (1, h, w), C-contiguous. scale, offset: (structural, logical), so that
    n = scale * map + offset; EfficientAD's quantile form is scale = 0.1 / (high - low), offset = -low * scale.
    sigmoid: fuse 0.5 sig(n_st) + 0.5 sig(n_lg) (DFSC) instead of 0.5 n_st + 0.5 n_lg. border: cells added on each
    side; border_mode "zero" continues the RAW map as 0 and normalises then, "replicate" repeats the nearest cell.
    size: (H, W) in pixels, reached by bilinear sampling with half-pixel centres (align_corners=False, no antialias).
    out: float32 (H, W), written in the same pass; without it the full map never exists.

    Raises TypeError for dtype or layout, ValueError for sizes and parameters. (methods.md 2.6, 7.5, decision E-3.)
    """
    return Fused(
        *_cpu.fuse(
            structural,
            logical,
            scale=scale,
            offset=offset,
            sigmoid=sigmoid,
            border=border,
            border_mode=border_mode,
            size=size,
            out=out,
        )
    )


def fuse_places(
    structural: NDArray[np.float32],
    logical: NDArray[np.float32],
    *,
    places: NDArray[np.float32],
    border: int,
    border_mode: str,
    size: tuple[int, int],
    out: NDArray[np.float32] | None = None,
) -> Fused:
    """Judge each cell of two maps by its own levels, take the larger, upsample to full size and take the maximum, in one pass.

    places: float32 (2, 2, h, w), C-contiguous: what is usual of both maps, then how much a deviation weighs, so that
    n = max(0, (map - usual) * weight) at each cell and fused = max(n_st, n_lg). border_mode "zero" continues n as 0. The
    other parameters, the result and the errors are those of `fuse`. (Ours, not the papers'.)
    """
    return Fused(
        *_cpu.fuse_places(
            structural, logical, places=places, border=border, border_mode=border_mode, size=size, out=out
        )
    )


def project_maps(
    maps: Sequence[NDArray[np.float32]],
    rows: Sequence[NDArray[np.float32]],
    columns: Sequence[NDArray[np.float32]],
    weights: Sequence[float],
    constant: float,
    out: NDArray[np.float32],
) -> Projected:
    """Add constant + sum over k of weights[k] * rows[k] @ maps[k] @ columns[k].T up in `out`; say where it is largest.

    maps: float32 (h_k, w_k). rows, columns: float32 (H, h_k) and (W, w_k), of `lad_edge.kernels.resampling`: enlarging
    and blurring in one. weights: one for each map, finite. out: float32 (H, W), overwritten. All C-contiguous. Maps that
    share rows and columns cost less when they are added before. A cell that is not finite shows in the pixels that it
    reaches. Raises TypeError for dtype or layout, ValueError for sizes, and for weights that are not finite.
    (The linear tails of ULSAD and FOD: methods.md 4.5, 5.6 and 7.5.)
    """
    return Projected(*_cpu.project_maps(maps, rows, columns, weights, constant, out))


def pack_masks(masks: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Bit sets for `masked_histograms`: (M, N) bool, True where a token is masked, to (M, ceil(N / 32)) uint32.

    Bit n % 32 of word n // 32 is token n. Raises TypeError for dtype, ValueError for shape.
    """
    if masks.dtype != np.bool_:
        raise TypeError(f"masks: expected bool, got {masks.dtype}")
    if masks.ndim != 2 or 0 in masks.shape:
        raise ValueError(f"masks: expected shape (masks, tokens), none of them 0, got {masks.shape}")
    padded = np.zeros((len(masks), -(-masks.shape[1] // 32), 32), np.bool_)
    padded.reshape(len(masks), -1)[:, : masks.shape[1]] = masks
    return np.packbits(padded, axis=-1, bitorder="little").view("<u4")[..., 0].astype(np.uint32)


def quantiles(values: NDArray[np.float32] | Sequence[NDArray[np.float32]], q: ArrayLike) -> NDArray[np.float64]:
    """Exact quantiles at position q * (n - 1), linearly interpolated, for any number of values.

    values: one float32 C-contiguous array of any shape, or several that count as one (never concatenated).
    q: fractions from 0 to 1, any shape; the result has that shape. Memory does not grow with n.
    Raises TypeError for dtype or layout, ValueError for NaN, for no values and for q outside 0..1.
    """
    fractions = np.asarray(q, dtype=np.float64)
    arrays = [values] if isinstance(values, np.ndarray) else list(values)
    return _cpu.quantiles(arrays, fractions.ravel().tolist()).reshape(fractions.shape)


def label_regions(anomaly_map: NDArray[np.float32], threshold: float, *, min_area_px: int = 1) -> list[LabelledRegion]:
    """Connected areas (8 neighbours) strictly above `threshold`, the highest peak first.

    anomaly_map: float32 (H, W), C-contiguous; the comparison is exact for any float64 threshold. Areas under min_area_px pixels are
    left out. The peak is the first pixel with the largest value. Raises TypeError for dtype or layout, ValueError for
    shape and for NaN in the map.
    """
    return [LabelledRegion(*row) for row in _regions.label_regions(anomaly_map, threshold, min_area_px)]
