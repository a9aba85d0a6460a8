"""lad-edge benchmark-detectors: detectors, categories and seeds go in; a table of what each reaches comes out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from lad_edge.cli.arguments import add_json, print_json
from lad_edge.errors import UsageError
from lad_edge.training.presets import DETECTORS, PRESETS

_EPILOG = """\
examples:
  lad-edge benchmark-detectors mvtec_loco/ --detectors dfsc,ulsad --seeds 1,2,3 --preset cpu --out bench/
  lad-edge benchmark-detectors mvtec_loco/ --categories juice_bottle,pushpins --detectors fod --out bench/

Each cell is trained, exported and measured through the exported engine. Cells that OUT holds already are not trained again, and a killed
training resumes. OUT/results.md has mean ± standard deviation over the seeds beside the published numbers; results.csv and
results.json have every cell.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "benchmark-detectors",
        help="train and measure a grid of detectors, categories and seeds (workstation)",
        description="Trains and measures detectors on categories of a data set, with several seeds, and writes tables.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a category, or the folder that holds several")
    parser.add_argument(
        "--detectors", default=",".join(DETECTORS), metavar="NAMES", help="with commas between; default: %(default)s"
    )
    parser.add_argument("--categories", metavar="NAMES", help="with commas between; default: all that DATA holds")
    parser.add_argument("--seeds", default="42", metavar="N,N", help="default: %(default)s")
    parser.add_argument("--preset", choices=("paper", "cpu"), default="paper", help="see 'lad-edge train --help'")
    parser.add_argument("--layout", default="auto", help="layout of the data; default: by the names of its folders")
    parser.add_argument("--policy", default="conformal:5%", help="threshold of the engines (default: conformal:5%%)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="runs, engines and tables")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: cuda where there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_json(parser, "print the cells as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measures the grid; returns 0."""
    from lad_edge.datasets import choose_categories
    from lad_edge.export.grid import Cell, measure, write_tables
    from lad_edge.training.fit import FitOptions

    detectors = [_known(name.replace("-", "_"), DETECTORS, "detector") for name in args.detectors.split(",")]
    chosen = choose_categories(args.data, args.categories.split(",") if args.categories else ())
    cells = [
        Cell(detector, name, seed, folder, PRESETS[detector][args.preset] | {"seed": seed})
        for name, folder in chosen.items()
        for detector in detectors
        for seed in _seeds(args.seeds)
    ]
    quiet = args.quiet or not sys.stderr.isatty()
    options = FitOptions(layout=args.layout, device=args.device, quiet=quiet)
    args.out.mkdir(parents=True, exist_ok=True)
    measured = measure(cells, args.out, options, args.policy, lambda line: print(line, file=sys.stderr))
    write_tables(measured, args.out)
    if args.json:
        print_json({"cells": [asdict(cell) for cell in measured]})
    else:
        print((args.out / "results.md").read_text(), end="")
    return 0


def _known(name: str, known: Iterable[str], what: str) -> str:
    names = list(known)
    if name not in names:
        raise UsageError(f"{what} '{name}': expected one of {', '.join(names)}")
    return name


def _seeds(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as exc:
        raise UsageError(f"--seeds {text}: expected whole numbers with commas between, such as 1,2,3") from exc
