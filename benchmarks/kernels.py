"""Native kernels against the best numpy, OpenCV and Pillow forms, one thread each: python -m benchmarks.kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image

from benchmarks.harness import Contest, Pace, compare, copy_bytes_per_second, finish, options, show, start
from lad_edge.kernels import Preprocess, _cpu, distance_map, fuse, label_regions, quantiles, reference

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
    contests = [preprocess_contest(pace), *fuse_contests(pace)]
    contests += [distance_contest(pace), quantiles_contest(pace), regions_contest(pace)]
    for contest in contests:
        show(contest, copy_bytes_per_second(contest.bytes_moved, pace))
    finish(arguments, contests)


if __name__ == "__main__":
    main()
