"""What each kernel means, in numpy: plain, slow, float64 where it matters; the native code is tested against it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lad_edge.kernels import Codebook, Fused, LabelledRegion, Projected, RidgeTables

# Beyond this a float32 difference of two values can overflow; the kernels count such cells as non-finite.
INTERPOLATION_LIMIT = float(np.float32(2.0**126))


def triangle_weights(source_size: int, size: int) -> NDArray[np.float64]:
    """(size, source_size) matrix of Pillow's and torchvision's antialiased bilinear filter; rows sum to 1."""
    scale = source_size / size
    support = max(1.0, scale)
    centre = (np.arange(size)[:, None] + 0.5) * scale
    distance = (np.arange(source_size)[None, :] + 0.5 - centre) / support
    weights = np.clip(1.0 - np.abs(distance), 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def preprocess(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    *,
    roi: tuple[int, int, int, int] | None = None,
    swap_rb: bool,
    mean: Sequence[float],
    std: Sequence[float],
) -> NDArray[np.float64]:
    """(3, h, w): crop to roi, resize with antialias, (x / 255 - mean) / std; see `kernels.Preprocess`."""
    pixels = image[:, :, None] if image.ndim == 2 else image
    if roi is not None:
        x, y, w, h = roi
        pixels = pixels[y : y + h, x : x + w]
    rows, columns = triangle_weights(pixels.shape[0], size[0]), triangle_weights(pixels.shape[1], size[1])
    resized = np.einsum("yh,hwc,xw->cyx", rows, pixels.astype(np.float64), columns, optimize=True)
    colour = np.broadcast_to(resized[::-1] if swap_rb else resized, (3, *size))
    return np.asarray((colour / 255.0 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1)))


def distance_map(a: NDArray[np.float32], b: NDArray[np.float32], *, cosine: float = 0.0) -> NDArray[np.float64]:
    """(H, W): mean over channels of the squared difference of two (C, H, W) arrays, + cosine * (1 - cos(a, b))."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = [np.maximum(np.sqrt((v**2).sum(axis=-3)), 1e-8) for v in (x, y)]
    return np.asarray(((x - y) ** 2).mean(axis=-3) + cosine * (1 - (x * y).sum(axis=-3) / (norms[0] * norms[1])))


def linear_weights(source_size: int, size: int) -> NDArray[np.float64]:
    """(size, source_size) matrix of bilinear sampling with half-pixel centres, clamped at the edges, no antialias."""
    position = np.clip((np.arange(size) + 0.5) * (source_size / size) - 0.5, 0, source_size - 1)
    return np.asarray(np.clip(1.0 - np.abs(position[:, None] - np.arange(source_size)[None, :]), 0.0, None))


def normalise(
    raw: NDArray[np.floating], scale: float, offset: float, border: int, border_mode: str
) -> NDArray[np.float64]:
    """The padded map scale * M + offset: "zero" pads the raw map (decision E-3), "replicate" repeats the edge."""
    mode = {"zero": "constant", "replicate": "edge"}[border_mode]
    padded = np.pad(raw.astype(np.float64), border, mode=mode)  # type: ignore[call-overload]
    return np.asarray(np.float32(scale) * padded + np.float32(offset))


def upsample(low: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """(H, W) from (h, w), separable."""
    return np.asarray(linear_weights(low.shape[0], size[0]) @ low @ linear_weights(low.shape[1], size[1]).T)


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
) -> tuple[Fused, NDArray[np.float64]]:
    """The result and the full fused map; see `kernels.fuse`. For finite maps: with others only `nonfinite` is set."""
    low = [normalise(m, scale[i], offset[i], border, border_mode) for i, m in enumerate((structural, logical))]
    inner = [m[border : m.shape[0] - border, border : m.shape[1] - border] for m in low]
    nonfinite = sum(int((~(np.abs(m) < INTERPOLATION_LIMIT)).sum()) for m in inner)
    if nonfinite:
        return Fused(np.nan, -1, -1, np.nan, np.nan, nonfinite), np.full(size, np.nan)
    parts = [0.5 + 0.5 * np.tanh(0.5 * m) for m in low] if sigmoid else low
    full = upsample(0.5 * parts[0] + 0.5 * parts[1], size)
    y, x = np.unravel_index(int(full.argmax()), full.shape)
    tops = [float(upsample(m, size).max()) for m in low]
    return Fused(float(full.max()), int(y), int(x), tops[0], tops[1], 0), full


def fuse_places(
    structural: NDArray[np.float32],
    logical: NDArray[np.float32],
    *,
    places: NDArray[np.float32],
    border: int,
    border_mode: str,
    size: tuple[int, int],
) -> tuple[Fused, NDArray[np.float64]]:
    """The result and the full map, for finite maps; see `kernels.fuse_places`."""
    usual, weight = places.astype(np.float64)
    above = np.maximum((np.stack([structural, logical]) - usual) * weight, 0)
    tops = [float(upsample(normalise(m, 1.0, 0.0, border, border_mode), size).max()) for m in above]
    full = upsample(normalise(above.max(0), 1.0, 0.0, border, border_mode), size)
    y, x = np.unravel_index(int(full.argmax()), full.shape)
    return Fused(float(full.max()), int(y), int(x), tops[0], tops[1], 0), full


def quantiles(values: NDArray[np.float32] | Sequence[NDArray[np.float32]], q: ArrayLike) -> NDArray[np.float64]:
    """Linear interpolation between order statistics at q * (n - 1)."""
    arrays = [values] if isinstance(values, np.ndarray) else values
    together = np.concatenate([a.ravel() for a in arrays]).astype(np.float64)
    return np.asarray(np.quantile(together, np.asarray(q, np.float64)))


def project_maps(
    maps: Sequence[NDArray[np.float32]],
    rows: Sequence[NDArray[np.float32]],
    columns: Sequence[NDArray[np.float32]],
    weights: Sequence[float],
    constant: float,
) -> tuple[Projected, NDArray[np.float64]]:
    """The result and the full map, for finite maps; see `kernels.project_maps`."""
    full = constant + sum(
        w * (r.astype(np.float64) @ m.astype(np.float64) @ c.T.astype(np.float64))
        for m, r, c, w in zip(maps, rows, columns, weights, strict=True)
    )
    y, x = np.unravel_index(int(full.argmax()), full.shape)
    return Projected(float(full.max()), int(y), int(x), 0), np.asarray(full)


def quantize(top: Codebook, levels: Sequence[Codebook], tokens: NDArray[np.float32]) -> NDArray[np.uint16]:
    """(1 + levels, N) codes of finite (1 + levels, N, D) tokens; see `kernels.Quantizer`."""
    first = book_scores(top, tokens[0], np.zeros(tokens.shape[1], np.int64)).argmax(1)
    others = [book_scores(book, e, first).argmax(1) for book, e in zip(levels, tokens[1:], strict=True)]
    return np.stack([first, *others]).astype(np.uint16)


def book_scores(book: Codebook, tokens: NDArray[np.float32], top_codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, K) score of every entry for every token (N, D), in float64."""
    e = tokens.astype(np.float64)
    entries, nothing = book.entries.astype(np.float64), np.zeros((1, 1))
    tables = book.shift, nothing if book.prior is None else book.prior
    shift, prior = (table[top_codes if len(table) > 1 else 0].astype(np.float64) for table in tables)
    x = (e if book.projection is None else e @ book.projection.T.astype(np.float64)) + shift
    squares = np.square(x).sum(1, keepdims=True) + np.square(entries).sum(1)
    return np.asarray(x @ entries.T - 0.5 * squares + prior)


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def correlations(queries: NDArray[np.float32], keys: NDArray[np.float32], heads: int) -> NDArray[np.float64]:
    """(heads, L, L): S of (L, d) queries and keys; rows sum to 1."""
    q, k = (x.astype(np.float64).reshape(len(x), heads, -1).transpose(1, 0, 2) for x in (queries, keys))
    return softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2]))


def neighbourhoods(sigmas: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """(heads, L, L): T of (L, 2 heads) sigmas in cells; the two-dimensional Gaussian itself, rows sum to 1."""
    y, x = (axis.ravel() for axis in np.mgrid[:side, :side])
    sigma = sigmas.astype(np.float64).T.reshape(-1, 2, side * side, 1)
    down, across = (y[:, None] - y[None, :]) / sigma[:, 0], (x[:, None] - x[None, :]) / sigma[:, 1]
    return softmax(-0.5 * (down**2 + across**2))


def symmetric_kl(
    queries: NDArray[np.float32], keys: NDArray[np.float32], sigmas: NDArray[np.float32], *, heads: int, side: int
) -> NDArray[np.float64]:
    """(L,) mean over heads of kl(S, T) + kl(T, S); what `kernels.symmetric_kl` adds with weight 1."""
    s, t = correlations(queries, keys, heads), neighbourhoods(sigmas, side)
    forth, back = (p * (np.log(p + 1e-4) - np.log(q + 1e-4)) for p, q in ((s, t), (t, s)))
    return np.asarray((forth + back).sum(axis=2).mean(axis=0))


def unpack_masks(masks: NDArray[np.uint32], tokens: int) -> NDArray[np.bool_]:
    """(M, tokens) bool from bit sets; undoes `kernels.pack_masks`."""
    bits = masks[:, :, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
    return np.asarray(bits.reshape(len(masks), -1)[:, :tokens] == 1)


def masked_histograms(codes: NDArray[np.uint16], masks: NDArray[np.uint32], entries: int) -> NDArray[np.int64]:
    """(M, L, K) counts; see `kernels.masked_histograms`."""
    covered = unpack_masks(masks, codes.shape[1])
    return np.array([[np.bincount(level[mask], minlength=entries) for level in codes] for mask in covered])


def masked_histogram_score(
    codes: NDArray[np.uint16], masks: NDArray[np.uint32], logits: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(M,) sums of absolute differences, for finite logits; see `kernels.masked_histogram_score`."""
    counts = masked_histograms(codes, masks, logits.shape[2])
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=2, keepdims=True))
    predicted, counted = (values / values.sum(axis=2, keepdims=True) for values in (powers, counts))
    return np.asarray(np.abs(predicted - counted).sum(axis=(1, 2)))


def masked_ridge(
    cells: NDArray[np.float32], tables: RidgeTables
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Distances of finite (C, side, side) cells from good parts: fine, coarse and own; see `kernels.RidgeTables`.

    fine: (side, side), of each cell's residual. coarse: (side / 2, side / 2), of the mean of each region's four residuals.
    own: (side, side), how unusual each cell is by itself, without asking the other regions.
    """
    mean, scale, context, prediction, whitening, fine, coarse, gain = (table.astype(np.float64) for table in tables)
    z = (region_cells(cells) - mean) * scale
    added = np.einsum("grc,gc->gr", context, z.mean(1))
    residual = z - np.einsum("gr,gkrc->gkc", added.sum(0) - added, prediction)
    of_residuals = cell_map(np.sqrt(gain[0] * squared_distances(residual @ whitening, fine)))
    of_regions = np.sqrt(gain[1] * squared_distances(residual.mean(1) @ whitening, coarse))
    of_cells = cell_map(np.sqrt(gain[2] * squared_distances(z @ whitening, fine)))
    return of_residuals, of_regions.reshape(cells.shape[1] // 2, -1), of_cells


def region_cells(cells: NDArray[np.float32]) -> NDArray[np.float64]:
    """(regions, 4, C) of (C, side, side), in the order of `kernels.RidgeTables`."""
    channels, side, _ = cells.shape
    split = cells.astype(np.float64).reshape(channels, side // 2, 2, side // 2, 2)
    return np.asarray(split.transpose(1, 3, 2, 4, 0).reshape(-1, 4, channels))


def cell_map(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(side, side) of (regions, 4): undoes the order of `region_cells`."""
    side = round(len(values) ** 0.5)
    return np.asarray(values.reshape(side, side, 2, 2).transpose(0, 2, 1, 3).reshape(2 * side, 2 * side))


def squared_distances(white: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(...) of white coordinates (..., C) less their parts along directions (..., q, C), where good parts vary."""
    along = np.einsum("...qc,...c->...q", directions, white)
    return np.asarray(np.maximum((white**2).sum(-1) - (along**2).sum(-1), 0))


def label_regions(anomaly_map: NDArray[np.float32], threshold: float, *, min_area_px: int = 1) -> list[LabelledRegion]:
    """Flood fill from each pixel above the threshold, in reading order."""
    todo = anomaly_map.astype(np.float64) > threshold  # numpy would round the threshold to float32
    found = []
    for y, x in zip(*np.nonzero(todo), strict=True):
        if todo[y, x]:
            found.append(_measure(anomaly_map, _flood(todo, int(y), int(x))))
    return sorted((r for r in found if r.area_px >= min_area_px), key=lambda r: (-r.peak, r.peak_y_px, r.peak_x_px))


def _flood(todo: NDArray[np.bool_], y: int, x: int) -> list[tuple[int, int]]:
    """Take the area of (y, x) out of todo; returns its pixels in reading order."""
    pixels, queue = [], deque([(y, x)])
    todo[y, x] = False
    while queue:
        y, x = queue.popleft()
        pixels.append((y, x))
        for v in range(max(0, y - 1), min(todo.shape[0], y + 2)):
            for u in range(max(0, x - 1), min(todo.shape[1], x + 2)):
                if todo[v, u]:
                    todo[v, u] = False
                    queue.append((v, u))
    return sorted(pixels)


def _measure(anomaly_map: NDArray[np.float32], pixels: list[tuple[int, int]]) -> LabelledRegion:
    ys, xs = [y for y, _ in pixels], [x for _, x in pixels]
    peak_y, peak_x = max(pixels, key=lambda p: (anomaly_map[p], -p[0], -p[1]))
    left, top = min(xs), min(ys)
    box = (left, top, max(xs) - left + 1, max(ys) - top + 1)
    return LabelledRegion(*box, len(pixels), float(anomaly_map[peak_y, peak_x]), peak_x, peak_y)
