"""Camera image to network input, and regions of a full-size map."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.cases.case import Case, Contestant, Floats, close_to, on_each_isa
from lad_edge.kernels import Preprocess, label_regions, reference

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GAIN = (1 / (255 * np.array(STD))).astype(np.float32).reshape(3, 1, 1)
BIAS = (-np.array(MEAN) / np.array(STD)).astype(np.float32).reshape(3, 1, 1)
GREY_LEVELS = 255 * np.reshape(STD, (3, 1, 1))


def camera_image(height: int, width: int) -> NDArray[np.uint8]:
    """Shading, edges and noise, (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    base = 110 + 70 * np.sin(x / 91.0) * np.cos(y / 67.0) + 50 * ((x // 53 + y // 47) % 2)
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.asarray(np.clip(base[:, :, None] + noise, 0, 255), np.uint8)


def preprocess() -> Case:
    """What the training does, against what OpenCV's users do instead: the notes say how far off that is."""
    image, out, size = camera_image(1024, 1280), np.empty((3, 256, 256), np.float32), (256, 256)
    plan = Preprocess(image.shape, size, swap_rb=True, mean=MEAN, std=STD)
    rows, columns = (reference.triangle_weights(n, 256).astype(np.float32) for n in image.shape[:2])
    wanted = reference.preprocess(image, size, swap_rb=True, mean=MEAN, std=STD)

    def normalise(small: Floats | NDArray[np.uint8]) -> Floats:
        np.multiply(small[:, :, ::-1].transpose(2, 0, 1), GAIN, out=out)
        np.add(out, BIAS, out=out)
        return out

    def ours() -> Floats:
        plan(image, out)
        return out

    def by_pillow() -> Floats:
        return normalise(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)))

    def by_opencv_area() -> Floats:
        return normalise(cv2.resize(image, size, interpolation=cv2.INTER_AREA))

    def by_numpy() -> Floats:
        tall = (rows @ image.reshape(1024, -1).astype(np.float32)).reshape(256, 1280, 3)
        return normalise(np.matmul(columns, tall))

    def within(levels: float) -> Callable[[Floats], None]:
        return lambda got: close_to(wanted * GREY_LEVELS, levels)(got * GREY_LEVELS)

    def off_by(got: Floats) -> str:
        grey = np.abs((got - wanted) * GREY_LEVELS)
        return f"off by {grey.max():.2f} grey levels at most, {grey.mean():.2f} on average"

    others = {
        "Pillow + numpy": (by_pillow, 1.0),
        "numpy, two matrix products": (by_numpy, 1e-3),
        "OpenCV AREA + numpy": (by_opencv_area, 16.0),
    }
    contestants = on_each_isa(ours, close_to(wanted, 5e-6)) | {
        name: Contestant(call, within(levels), off_by(call())) for name, (call, levels) in others.items()
    }
    title = "preprocess: 1280x1024 BGR -> 3x256x256, antialiased bilinear, normalised"
    return Case(title, contestants, bytes_moved=image.nbytes + out.nbytes)


def regions() -> Case:
    """A smooth full-size map with a few spots above the threshold."""
    noise = np.random.default_rng(0).random((30, 38), np.float32)
    anomaly_map, threshold = cv2.resize(noise, (1280, 1024), interpolation=cv2.INTER_CUBIC), 0.97
    wanted = regions_by_opencv(anomaly_map, threshold)

    def equal(got: list[tuple[float, ...]]) -> None:
        assert got == wanted, "the regions are not those of OpenCV"

    contestants = {
        "native": Contestant(lambda: [tuple(row) for row in label_regions(anomaly_map, threshold)], equal),
        "OpenCV + numpy": Contestant(lambda: regions_by_opencv(anomaly_map, threshold), equal),
    }
    title = f"label_regions: 1280x1024, {len(wanted)} regions"
    return Case(title, contestants, bytes_moved=anomaly_map.nbytes)


def regions_by_opencv(anomaly_map: Floats, threshold: float) -> list[tuple[float, ...]]:
    """The fields of `LabelledRegion`, the highest peak first."""
    above = (anomaly_map > threshold).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    rows = []
    for label, (x, y, w, h, area) in enumerate(stats[1:], start=1):
        box = np.s_[y : y + h, x : x + w]
        _, peak, _, (u, v) = cv2.minMaxLoc(anomaly_map[box], mask=(labels[box] == label).view(np.uint8))
        rows.append((x, y, w, h, area, peak, x + u, y + v))
    return sorted(rows, key=lambda row: (-row[5], row[7], row[6]))
