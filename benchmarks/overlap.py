"""Time and memory of PRO and both sPRO of a category as large as MVTec LOCO's largest: python -m benchmarks.overlap.

100 good, 100 logical and 100 structural images of 1600 × 1280 px with maps of 256 × 256, a tenth of the pixels marked.
Maps and masks know nothing of each other, so that the whole area under each curve has to come out near one half.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import cv2
import numpy as np

from benchmarks.contestant import memory_mb
from benchmarks.report import about, add_json_flag, measuring, table, write
from lad_edge.metrics import OverlapAreas, Region, components

HEIGHT, WIDTH, MAP = 1280, 1600, 256
LABELS = ("good", "logical", "structural")
SATURATION = 0.8  # of each channel


def main() -> None:
    """Measures once; the work is the same for any input of this size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, metavar="N", help="default: %(default)s")
    add_json_flag(parser)
    args = parser.parse_args()
    measuring()
    collected, marked = OverlapAreas(), 0
    before_mb, started = memory_mb()["peak_mb"], time.process_time()
    for label, anomaly_map, mask in test_images(args.images):
        collected.add(anomaly_map, mask, regions(label, mask))
        marked += int(mask.sum())
    added = time.process_time()
    areas = collected.areas()
    wrong = {name: curve[1.0] for name, curve in areas.items() if abs(curve[1.0] - 0.5) > 0.15}
    if wrong:
        raise SystemExit(f"expected areas near one half, got {wrong}")
    figures = {
        "images": args.images,
        "marked_px": marked,
        "add_cpu_s": round(added - started, 1),
        "areas_cpu_s": round(time.process_time() - added, 1),
        "peak_mb": memory_mb()["peak_mb"],
        "peak_before_mb": before_mb,
    }
    print(table("PRO and sPRO of a category", list(figures), [list(figures.values())]))
    write(args.json, about() | {"overlap": figures})


def test_images(count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Label, map and mask of each image."""
    rng = np.random.default_rng(0)
    for i in range(count):
        label, mask = LABELS[i % len(LABELS)], np.zeros((HEIGHT, WIDTH), bool)
        if label != "good":
            left = int(rng.integers(100, 600))
            mask[300:700, left : left + 680] = True
            mask[900:1000, left : left + 340] = True
        yield label, cv2.GaussianBlur(rng.normal(size=(MAP, MAP)).astype(np.float32), (0, 0), 4), mask


def regions(label: str, mask: np.ndarray) -> dict[str, list[Region]]:
    """One channel for an anomalous image; good ones belong to all curves."""
    found = {name: list[Region]() for name in LABELS[1:] if label in ("good", name)} | {"pro": components(mask)}
    if label != "good":
        marked = np.flatnonzero(mask)
        found[label] = [Region(marked, int(SATURATION * len(marked)))]
    return found


if __name__ == "__main__":
    main()
