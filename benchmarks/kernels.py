"""Native kernels against the best numpy, OpenCV and Pillow forms, one thread each: python -m benchmarks.kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image

from benchmarks.harness import Contest, Pace, compare, copy_bytes_per_second, finish, options, show, start
from lad_edge.kernels import (
    Codebook,
    Preprocess,
    Quantizer,
    _cpu,
    distance_map,
    fuse,
    label_regions,
    masked_histogram_score,
    pack_masks,
    project_maps,
    quantiles,
    reference,
    symmetric_kl,
)
from lad_edge.kernels.resampling import blurred_bilinear

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
GAIN = (1 / (255 * STD)).astype(np.float32).reshape(3, 1, 1)
BIAS = (-MEAN / STD).astype(np.float32).reshape(3, 1, 1)
FUSE = {"scale": (30.0, 20.0), "offset": (-0.1, -0.2), "sigmoid": False, "border": 4, "border_mode": "zero"}


def expect_close(got: np.ndarray, wanted: np.ndarray, atol: float) -> None:
    """The check that comes before the clock."""
    np.testing.assert_allclose(got, wanted, rtol=0, atol=atol)


def each_isa(call: Callable[[], object]) -> dict[str, Callable[[], object]]:
    """One contestant for each instruction set, the widest (the default) first."""

    def pinned(isa: str) -> Callable[[], object]:
        def run() -> object:
            _cpu.use_isa(isa)
            return call()

        return run

    return {f"native {isa}": pinned(isa) for isa in reversed(_cpu.isas())}


def camera_image(height: int, width: int) -> np.ndarray:
    """Shading, edges and noise, (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    base = 110 + 70 * np.sin(x / 91.0) * np.cos(y / 67.0) + 50 * ((x // 53 + y // 47) % 2)
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.clip(base[:, :, None] + noise, 0, 255).astype(np.uint8)


def preprocess_contest(pace: Pace) -> Contest:
    """1280x1024 BGR to 256x256, antialiased and normalised."""
    image, out, size = camera_image(1024, 1280), np.empty((3, 256, 256), np.float32), (256, 256)
    plan = Preprocess(image.shape, size, swap_rb=True, mean=tuple(MEAN), std=tuple(STD))
    rows, columns = (reference.triangle_weights(n, 256).astype(np.float32) for n in image.shape[:2])

    def normalise(small: np.ndarray) -> None:
        np.multiply(small[:, :, ::-1].transpose(2, 0, 1), GAIN, out=out)
        np.add(out, BIAS, out=out)

    def by_pillow() -> None:
        normalise(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)))

    def by_opencv_area() -> None:
        normalise(cv2.resize(image, size, interpolation=cv2.INTER_AREA))

    def by_numpy() -> None:
        tall = (rows @ image.reshape(1024, -1).astype(np.float32)).reshape(256, 1280, 3)
        normalise(np.matmul(columns, tall))

    others = {
        "Pillow + numpy": by_pillow,
        "numpy, two matrix products": by_numpy,
        "OpenCV AREA + numpy": by_opencv_area,
    }
    wanted = reference.preprocess(image, size, swap_rb=True, mean=tuple(MEAN), std=tuple(STD))
    plan(image, out)
    expect_close(out, wanted, 5e-6)
    notes = {}
    for name, call in others.items():
        call()
        grey = np.abs((out - wanted) * STD.reshape(3, 1, 1) * 255)
        notes[name] = f"off by {grey.max():.2f} grey levels at most, {grey.mean():.2f} on average"
    contestants = {**each_isa(lambda: plan(image, out)), **others}
    title = "preprocess: 1280x1024 BGR -> 3x256x256, antialiased bilinear, normalised"
    return compare(title, contestants, pace, bytes_moved=image.nbytes + out.nbytes, notes=notes)


def opencv_fuse(structural: np.ndarray, logical: np.ndarray, size: tuple[int, int], out: np.ndarray) -> object:
    """The same outputs as `fuse` with OpenCV and numpy."""
    low = [
        FUSE["scale"][i] * cv2.copyMakeBorder(m, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=0)
        + np.float32(FUSE["offset"][i])
        for i, m in enumerate((structural, logical))
    ]
    cv2.resize(0.5 * low[0] + 0.5 * low[1], size[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
    tops = [cv2.minMaxLoc(cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR))[1] for m in low]
    return cv2.minMaxLoc(out), tops


def opencv_fused_only(structural: np.ndarray, logical: np.ndarray, size: tuple[int, int], out: np.ndarray) -> object:
    """Without the maxima of the two branches: less than `fuse` gives."""
    low = (0.5 * FUSE["scale"][0]) * structural + (0.5 * FUSE["scale"][1]) * logical
    padded = cv2.copyMakeBorder(low, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=0) + np.float32(0.5 * sum(FUSE["offset"]))
    cv2.resize(padded, size[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
    return cv2.minMaxLoc(out)


def fuse_contests(pace: Pace) -> Iterator[Contest]:
    """Two 56x56 maps to full size with the map, and to 256x256 without it."""
    rng = np.random.default_rng(0)
    structural, logical = (rng.random((56, 56), np.float32) * np.float32(0.02) for _ in range(2))
    for size, keep in (((1024, 1280), True), ((256, 256), False)):
        out = np.empty(size, np.float32)
        ours_out = out if keep else None
        expected, full = reference.fuse(structural, logical, size=size, **FUSE)
        got = fuse(structural, logical, size=size, out=out, **FUSE)
        expect_close(out, full, 5e-7)
        expect_close(np.array(got[:5]), np.array(expected[:5]), 5e-7)
        (_, top, _, _), tops = opencv_fuse(structural, logical, size, out)
        expect_close(out, full, 1e-5)
        expect_close(np.array([top, *tops]), np.array([expected.score, *expected[3:5]]), 1e-5)
        opencv_fused_only(structural, logical, size, out)
        expect_close(out, full, 1e-5)
        contestants = {
            **each_isa(lambda s=size, o=ours_out: fuse(structural, logical, size=s, out=o, **FUSE)),
            "OpenCV, same outputs": lambda s=size, o=out: opencv_fuse(structural, logical, s, o),
            "OpenCV, fused map only": lambda s=size, o=out: opencv_fused_only(structural, logical, s, o),
        }
        title = f"fuse: two 56x56 maps -> {size[1]}x{size[0]}, {'with' if keep else 'without'} the map, three maxima"
        moved = 2 * structural.nbytes + (out.nbytes if keep else 0)
        yield compare(title, contestants, pace, bytes_moved=moved)


def distance_contest(pace: Pace) -> Contest:
    """EfficientAD's 384 channels at 56x56."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(384, 56, 56)).astype(np.float32) for _ in range(2))
    out, difference = np.empty((56, 56), np.float32), np.empty_like(a)

    def by_numpy() -> object:
        np.subtract(a, b, out=difference)
        return np.einsum("chw,chw->hw", difference, difference) / np.float32(384)

    def by_opencv() -> object:
        cv2.absdiff(a.reshape(384, -1), b.reshape(384, -1), dst=difference.reshape(384, -1))
        flat = difference.reshape(384, -1)
        return cv2.reduce(cv2.multiply(flat, flat, dst=flat), 0, cv2.REDUCE_AVG)

    distance_map(a, b, out=out)
    for result in (out, by_numpy(), np.reshape(by_opencv(), (56, 56))):
        expect_close(result, reference.distance_map(a, b), 1e-5)
    contestants = {"native": lambda: distance_map(a, b, out=out), "numpy einsum": by_numpy, "OpenCV": by_opencv}
    title = "distance_map: mean square over 384 channels, 56x56"
    return compare(title, contestants, pace, bytes_moved=a.nbytes + b.nbytes + out.nbytes)


def cosine_contest(pace: Pace) -> Contest:
    """ULSAD's 384 channels, at 64x64."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(384, 64, 64)).astype(np.float32) for _ in range(2))
    out, difference = np.empty((64, 64), np.float32), np.empty_like(a)

    def by_numpy() -> object:
        np.subtract(a, b, out=difference)
        square, aa, bb, ab = (np.einsum("chw,chw->hw", x, y) for x, y in ((difference,) * 2, (a, a), (b, b), (a, b)))
        norms = np.maximum(np.sqrt(aa), np.float32(1e-8)) * np.maximum(np.sqrt(bb), np.float32(1e-8))
        return square / np.float32(384) + np.float32(0.5) * (1 - ab / norms)

    distance_map(a, b, cosine=0.5, out=out)
    for result in (out, by_numpy()):
        expect_close(result, reference.distance_map(a, b, cosine=0.5), 1e-5)
    contestants = {**each_isa(lambda: distance_map(a, b, cosine=0.5, out=out)), "numpy einsum": by_numpy}
    title = "distance_map: mean square and cosine over 384 channels, 64x64"
    return compare(title, contestants, pace, bytes_moved=a.nbytes + b.nbytes + out.nbytes)


def random_codebook(rng: np.random.Generator, token_width: int, top_entries: int | None) -> Codebook:
    """512 entries of 64 values, as LADMIM has them; without top_entries nothing is projected."""
    entries = rng.normal(size=(512, 64)).astype(np.float32)
    bias = (-0.5 * np.square(entries).sum(1, keepdims=True).T).astype(np.float32)
    if top_entries is None:
        return Codebook(None, np.zeros((1, 64), np.float32), entries, bias)
    projection = rng.normal(0, token_width**-0.5, (64, token_width)).astype(np.float32)
    return Codebook(projection, rng.normal(0, 0.1, (top_entries, 64)).astype(np.float32), entries, bias)


def numpy_codes(book: Codebook, tokens: np.ndarray, top: np.ndarray | int, scores: np.ndarray) -> np.ndarray:
    """The best numpy form: two products of matrices, in float32, and argmax."""
    x = tokens if book.projection is None else tokens @ book.projection.T
    np.matmul(x + book.shift[top], book.entries.T, out=scores)
    return np.add(scores, book.bias, out=scores).argmax(1)


def quantizer_contests(pace: Pace) -> Iterator[Contest]:
    """Codebook search alone, and LADMIM's star of a top codebook and four levels with its projections."""
    rng = np.random.default_rng(0)
    flat = random_codebook(rng, 64, None)
    books = [random_codebook(rng, 256, rows) for rows in (1, 512, 512, 512, 512)]
    for title, top, levels, shape in (
        ("quantizer: 4 x (576 tokens x 64 against 512 entries)", flat, [], (1, 4 * 576, 64)),
        ("quantizer: star of 1 + 4 codebooks, 576 tokens x 256 to 64 against 512", books[0], books[1:], (5, 576, 256)),
    ):
        tokens, codes = rng.normal(size=shape).astype(np.float32), np.empty(shape[:2], np.uint16)
        quantizer, scores = Quantizer(top, levels), np.empty((shape[1], 512), np.float32)

        def by_numpy(top=top, levels=levels, tokens=tokens, scores=scores) -> list[np.ndarray]:
            first = numpy_codes(top, tokens[0], 0, scores)
            return [first, *(numpy_codes(b, e, first, scores) for b, e in zip(levels, tokens[1:], strict=True))]

        quantizer(tokens, codes)
        wanted = reference.quantize(top, levels, tokens)
        for result in (codes, np.stack(by_numpy())):
            if (result == wanted).mean() < 0.999:
                raise AssertionError("fewer than 99.9 % of the codes agree with float64")
        contestants = {**each_isa(lambda q=quantizer, t=tokens, c=codes: q(t, c)), "numpy, matmul and argmax": by_numpy}
        yield compare(title, contestants, pace, bytes_moved=tokens.nbytes + codes.nbytes)


def histogram_contest(pace: Pace) -> Contest:
    """LADMIM's 16 masks over 4 levels of 576 codes."""
    rng = np.random.default_rng(0)
    masks = np.argsort(rng.random((16, 576)), axis=1) < 130
    packed, codes = pack_masks(masks), rng.integers(0, 512, (4, 576)).astype(np.uint16)
    logits, out = rng.normal(size=(16, 4, 512)).astype(np.float32), np.empty(16, np.float32)
    tokens = np.stack([np.flatnonzero(mask) for mask in masks])  # the masks are fixed: their lists cost nothing here
    first_bin = (512 * np.arange(16 * 4)).reshape(16, 4, 1)

    def by_numpy() -> np.ndarray:
        bins = codes[:, tokens].transpose(1, 0, 2) + first_bin
        counted = np.bincount(bins.ravel(), minlength=logits.size).reshape(logits.shape) * np.float32(1 / 130)
        powers = np.exp(logits - logits.max(axis=2, keepdims=True))
        return np.abs(powers / powers.sum(axis=2, keepdims=True) - counted).sum(axis=(1, 2), dtype=np.float32)

    masked_histogram_score(codes, packed, logits, out)
    for result in (out, by_numpy()):
        expect_close(result, reference.masked_histogram_score(codes, packed, logits), 1e-5)
    ours = each_isa(lambda: masked_histogram_score(codes, packed, logits, out))
    title = "masked_histogram_score: 16 masks, 4 levels, 576 tokens, 512 entries"
    contestants = {**ours, "numpy, bincount": by_numpy}
    return compare(title, contestants, pace, bytes_moved=logits.nbytes + codes.nbytes + packed.nbytes)


def project_contests(pace: Pace) -> Iterator[Contest]:
    """The tails of ULSAD (one merged map) and FOD (two levels), to 256x256."""
    rng = np.random.default_rng(0)
    for name, sides, border, corners in (("ULSAD", (32,), "reflect101", False), ("FOD", (32, 16), "symmetric", True)):
        maps = [rng.random((side, side), np.float32) for side in sides]
        enlarge = [blurred_bilinear(side, 256, 4.0, border=border, corners=corners) for side in sides]
        flipped = [np.ascontiguousarray(matrix.T) for matrix in enlarge]
        weights, out, part = [0.5] * len(maps), np.empty((256, 256), np.float32), np.empty((256, 256), np.float32)

        def by_numpy(maps=maps, enlarge=enlarge, flipped=flipped, out=out, part=part) -> object:
            np.matmul((np.float32(0.5) * enlarge[0]) @ maps[0], flipped[0], out=out)
            for i in range(1, len(maps)):
                np.add(out, np.matmul((np.float32(0.5) * enlarge[i]) @ maps[i], flipped[i], out=part), out=out)
            np.add(out, np.float32(0.1), out=out)
            return np.unravel_index(out.argmax(), out.shape)

        arguments = (maps, enlarge, enlarge, weights, 0.1, out)
        for call in (lambda a=arguments: project_maps(*a), by_numpy):
            call()
            expect_close(out, reference.project_maps(*arguments[:5])[1], 1e-6)
        contestants = {**each_isa(lambda a=arguments: project_maps(*a)), "numpy, matmul and argmax": by_numpy}
        title = f"project_maps: {name}, {' and '.join(f'{s}x{s}' for s in sides)} -> 256x256, blurred, with its maximum"
        yield compare(title, contestants, pace, bytes_moved=sum(m.nbytes for m in (*maps, *enlarge, *enlarge, out)))


def numpy_symmetric_kl(queries: np.ndarray, keys: np.ndarray, sigmas: np.ndarray, heads: int, side: int) -> np.ndarray:
    """As the equation reads, head by head, in float32 with BLAS for the scores."""
    width, out = queries.shape[1] // heads, np.zeros(len(queries), np.float32)
    grid, epsilon = np.arange(side, dtype=np.float32), np.float32(1e-4)
    for h in range(heads):
        of_head = np.s_[:, h * width : (h + 1) * width]
        scores = queries[of_head] @ keys[of_head].T * np.float32(width**-0.5)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        s = powers / powers.sum(axis=1, keepdims=True)
        t = numpy_target(sigmas[:, 2 * h : 2 * h + 2], grid)
        out += ((t - s) * (np.log(t + epsilon) - np.log(s + epsilon))).sum(axis=1)
    return out / np.float32(heads)


def numpy_target(sigmas: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(L, L): the outer products of the two normalised Gaussians of each token."""
    factors = []
    for centre, sigma in zip(np.divmod(np.arange(len(sigmas)), len(grid)), sigmas.T, strict=True):
        row = np.exp(np.float32(-0.5) * np.square((centre[:, None].astype(np.float32) - grid) / sigma[:, None]))
        factors.append(row / row.sum(axis=1, keepdims=True))
    return (factors[0][:, :, None] * factors[1][:, None, :]).reshape(len(sigmas), -1)


def numpy_symmetric_kl_in_place(
    queries: np.ndarray, keys: np.ndarray, sigmas: np.ndarray, heads: int, side: int, s: np.ndarray
) -> np.ndarray:
    """The same with one logarithm of the quotient and few new arrays: the best numpy form we know. s: (L, L)."""
    width, out = queries.shape[1] // heads, np.zeros(len(queries), np.float32)
    grid, epsilon = np.arange(side, dtype=np.float32), np.float32(1e-4)
    for h in range(heads):
        of_head = np.s_[:, h * width : (h + 1) * width]
        np.matmul(queries[of_head] * np.float32(width**-0.5), keys[of_head].T, out=s)
        np.exp(np.subtract(s, s.max(axis=1, keepdims=True), out=s), out=s)
        np.multiply(s, 1 / s.sum(axis=1, keepdims=True), out=s)
        t = numpy_target(sigmas[:, 2 * h : 2 * h + 2], grid)
        difference = t - s
        np.divide(np.add(t, epsilon, out=t), np.add(s, epsilon, out=s), out=t)
        out += np.einsum("ij,ij->i", difference, np.log(t, out=t))
    return out / np.float32(heads)


def symmetric_kl_contests(pace: Pace) -> Iterator[Contest]:
    """One layer of each of FOD's levels."""
    rng = np.random.default_rng(0)
    for side, width in ((32, 256), (16, 512)):
        queries, keys = (rng.normal(size=(side**2, width)).astype(np.float32) for _ in range(2))
        sigmas = rng.uniform(1.1e-5, 2, (side**2, 16)).astype(np.float32)
        out, square = np.zeros(side**2, np.float32), np.empty((side**2, side**2), np.float32)

        def ours(q=queries, k=keys, s=sigmas, side=side, out=out) -> object:
            return symmetric_kl(q, k, s, heads=8, side=side, weight=1.0, out=out)

        def by_numpy(q=queries, k=keys, s=sigmas, side=side) -> np.ndarray:
            return numpy_symmetric_kl(q, k, s, 8, side)

        def in_place(q=queries, k=keys, s=sigmas, side=side, square=square) -> np.ndarray:
            return numpy_symmetric_kl_in_place(q, k, s, 8, side, square)

        ours()
        for result in (out, by_numpy(), in_place()):
            expect_close(result, reference.symmetric_kl(queries, keys, sigmas, heads=8, side=side), 2e-5)
        contestants = {**each_isa(ours), "numpy in place, one log": in_place, "numpy, as the equation reads": by_numpy}
        yield compare(f"symmetric_kl: {side}x{side} tokens x {width}, 8 heads", contestants, pace)


def quantiles_contest(pace: Pace) -> Contest:
    """The calibration of 54 validation images."""
    maps = np.random.default_rng(0).gamma(2, 0.01, (54, 56, 56)).astype(np.float32)
    q = (0.9, 0.995)
    expect_close(quantiles(maps, q), reference.quantiles(maps, q), 1e-12)
    contestants = {"native": lambda: quantiles(maps, q), "numpy": lambda: np.quantile(maps, q)}
    return compare("quantiles: 0.9 and 0.995 of 54 maps of 56x56", contestants, pace, bytes_moved=2 * maps.nbytes)


def regions_contest(pace: Pace) -> Contest:
    """A smooth full-size map with a few spots above the threshold."""
    noise = np.random.default_rng(0).random((30, 38), np.float32)
    anomaly_map, threshold = cv2.resize(noise, (1280, 1024), interpolation=cv2.INTER_CUBIC), 0.97

    def by_opencv() -> list[tuple[int, ...]]:
        above = (anomaly_map > threshold).view(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
        rows = []
        for label, (x, y, w, h, area) in enumerate(stats[1:], start=1):
            box = np.s_[y : y + h, x : x + w]
            _, peak, _, (u, v) = cv2.minMaxLoc(anomaly_map[box], mask=(labels[box] == label).view(np.uint8))
            rows.append((x, y, w, h, area, peak, x + u, y + v))
        return sorted(rows, key=lambda row: (-row[5], row[7], row[6]))

    if [tuple(row) for row in label_regions(anomaly_map, threshold)] != by_opencv():
        raise AssertionError("label_regions and OpenCV disagree")
    contestants = {"native": lambda: label_regions(anomaly_map, threshold), "OpenCV + numpy": by_opencv}
    title = f"label_regions: 1280x1024, {len(by_opencv())} regions"
    return compare(title, contestants, pace, bytes_moved=anomaly_map.nbytes)


def main() -> None:
    """Run all questions."""
    arguments = options(__doc__ or "").parse_args()
    pace = start(arguments)
    cv2.setNumThreads(1)
    print(f"a copy far beyond the caches moves {copy_bytes_per_second(1 << 28, pace) / 1e9:.1f} GB/s on one thread")
    contests = [preprocess_contest(pace), *fuse_contests(pace), distance_contest(pace), cosine_contest(pace)]
    contests += [*quantizer_contests(pace), histogram_contest(pace), *project_contests(pace)]
    contests += [*symmetric_kl_contests(pace), quantiles_contest(pace), regions_contest(pace)]
    for contest in contests:
        show(contest, copy_bytes_per_second(contest.bytes_moved, pace))
    finish(arguments, contests)


if __name__ == "__main__":
    main()
