"""Rebuilds the demo that ships with lad-edge from a seed: data set, training, engine, video. Takes about a quarter of an hour.

    python -m lad_edge.export.demo WORK_FOLDER

writes demo.lad, demo.avi and demo.json to lad_edge/assets. Steps that are already done in WORK_FOLDER are not repeated.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lad_edge.export.export import ExportOptions, export_run

from lad_edge.datasets.synthetic import CATEGORY, generate
from lad_edge.datasets.synthetic_video import render_video
from lad_edge.training.fit import FitOptions, fit

ASSETS = Path(__file__).parent.parent / "lad_edge" / "assets"
DATA_SEED, VIDEO_SEED = 7, 2026
FREEDOM = 0.25  # how far parts may lie from their slots: enough that no place on its own decides, and still a task for a small network
WIDTH = 480  # px: golden frames and video are most of what ships
DETECTOR = "dfsc"
SETTINGS = {"size": "xs", "steps": 10_000, "learning_rate": 1.5e-3, "schedule": "cosine", "seed": 42}
VIDEO_PARTS = 60
POLICY = "conformal:5%"


def build_demo(work: Path, assets: Path) -> dict[str, object]:
    """Make everything below `work` and put engine, video and truth into `assets`; returns the export's report."""
    data = work / CATEGORY
    if not (data / "synthetic.json").is_file():  # written last
        generate(
            work,
            seed=DATA_SEED,
            train=240,
            validation=99,
            test_good=60,
            logical=90,
            structural=60,
            width_px=WIDTH,
            freedom=FREEDOM,
        )
    run = work / "run"
    fit(DETECTOR, data, run, SETTINGS, FitOptions(device="cpu", quiet=not sys.stderr.isatty()))
    report = export_run(run, assets / "demo.lad", ExportOptions(policy=POLICY, golden=1))
    render_video(assets / "demo.avi", seed=VIDEO_SEED, parts=VIDEO_PARTS, width_px=WIDTH, freedom=FREEDOM)
    return report


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Rebuild the demo engine and video from their seeds.")
    parser.add_argument("work", type=Path, help="folder for data set and run; kept, so that a stopped build resumes")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="where engine and video go (default: the package)")
    args = parser.parse_args()
    report = build_demo(args.work, args.assets)
    sys.stdout.write(f"{report['bundle']}: {report['metrics']}\n")


if __name__ == "__main__":
    main()
