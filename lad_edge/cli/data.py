"""`lad-edge data`: check a data set before training on it, or make a synthetic one."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lad_edge.datasets.check import Finding, Report

_CHECK_HELP = """\
Reads every image and mask of a data set and says what would spoil training or the figures:

  unreadable      truncated, corrupt or foreign files
  mixed_size, mixed_format, pixel_format
                  images unlike the others, 16-bit, alpha, palette
  duplicate       the same pixels twice;  near_identical  one part taken twice
  leak            one of these across train, validation and test
  label_conflict  one of these with two labels
  blurred, dark, bright
                  good images far from the median of the good images
  mask            missing, empty or of the wrong size

and whether there are enough validation images for the threshold that you want.
"""
_CHECK_EPILOG = """\
examples:
  lad-edge data check photos/                 a folder of good images
  lad-edge data check loco/juice_bottle       MVTec LOCO, MVTec AD, MVTec 3D-AD, BTAD, MPDD, VisA: found by itself
  lad-edge data check photos/ --json | jq '.findings[].paths'

exit codes: 0 nothing found, 2 findings or no usable data set
"""
_SYNTH_HELP = """\
Writes a procedural data set in the MVTec LOCO layout: a tray with nuts, washers, an O-ring, a cap and screws.
The colour of the cap says which screws belong to it, counts are fixed, and everything lies anywhere in its
compartment; so most of its logical anomalies consist of good patches in good places.
"""
_SYNTH_EPILOG = """\
examples:
  lad-edge data synth synthetic --seed 7
  lad-edge data synth synthetic --train 50 --format jpg
  lad-edge train dfsc synthetic/kit_tray

The same seed gives the same pictures; how many there are changes none of them.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `data` with its verbs `check` and `synth`."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = verbs.add_parser("data", help="check a data set, or make a synthetic one", description=__doc__)
    data_verbs = parser.add_subparsers(dest="data_verb", metavar="VERB", required=True)
    check = data_verbs.add_parser(
        "check",
        help="duplicates, leaks, mixed or damaged images",
        description=_CHECK_HELP,
        epilog=_CHECK_EPILOG,
        formatter_class=raw,
    )
    add_check_arguments(check)
    check.set_defaults(func=run_check)
    synth = data_verbs.add_parser(
        "synth",
        help="write a synthetic data set",
        description=_SYNTH_HELP,
        epilog=_SYNTH_EPILOG,
        formatter_class=raw,
    )
    add_synth_arguments(synth)
    synth.set_defaults(func=run_synth)


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `data check`."""
    parser.add_argument("dir", metavar="DIR", help="a folder of good images, or one category of a data set")
    layouts = ("auto", "mvtec_3d", "mvtec_loco", "mvtec_ad", "visa", "folder")
    parser.add_argument("--layout", choices=layouts, default="auto", help="default: by the names of its folders")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def add_synth_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `data synth`."""
    parser.add_argument("out", metavar="OUT", help="folder to write to; the data set becomes OUT/kit_tray")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="default: %(default)s")
    counts = {"train": 200, "validation": 60, "test-good": 60, "logical": 100, "structural": 60}
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--width", type=int, default=640, metavar="PX", help="of a 4:3 frame (default: %(default)s)")
    freedom = (
        "1: parts lie anywhere in their compartment; below 1: nearer to fixed slots, easier (default: %(default)s)"
    )
    parser.add_argument("--freedom", type=float, default=1.0, metavar="F", help=freedom)
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="jpg: a tenth of the size, same pixels")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run_check(args: argparse.Namespace) -> int:
    """Prints the report; returns 2 if there are findings, else 0."""
    from lad_edge.datasets import open_dataset
    from lad_edge.datasets.check import check

    report = check(open_dataset(args.dir, args.layout), progress=_show_progress)
    print(json.dumps(report.as_dict(), indent=1) if args.json else _report_text(report))
    return 2 if report.findings else 0


def _report_text(report: Report) -> str:
    splits = (
        f"  {split:10} " + ", ".join(f"{count} {label}" for label, count in labels.items())
        for split, labels in report.images.items()
        if labels
    )
    sizes = ", ".join(f"{size} ({count})" for size, count in report.sizes.items())
    lines = [f"{report.root}: layout {report.layout}, {sizes}", *splits]
    lines += [f"note: {note}" for note in report.notes]
    lines += [line for finding in report.findings for line in _finding_lines(finding)]
    lines.append(f"{len(report.findings)} findings" if report.findings else "nothing found")
    return "\n".join(lines)


def _finding_lines(finding: Finding, most: int = 8) -> list[str]:
    more = len(finding.paths) - most
    return [
        f"{finding.kind}: {finding.message}; {finding.remedy}",
        *(f"    {path}" for path in finding.paths[:most]),
        *([f"    and {more} more; --json lists all"] if more > 0 else []),
    ]


def run_synth(args: argparse.Namespace) -> int:
    """Writes the data set and prints its folder; returns 0."""
    from lad_edge.datasets.synthetic import generate

    folder = generate(
        args.out,
        seed=args.seed,
        train=args.train,
        validation=args.validation,
        test_good=args.test_good,
        logical=args.logical,
        structural=args.structural,
        width_px=args.width,
        freedom=args.freedom,
        image_format=args.format,
        progress=_show_progress,
    )
    print(json.dumps({"folder": str(folder), "seed": args.seed}) if args.json else folder)
    return 0


def _show_progress(done: int, total: int) -> None:
    """A line on stderr that rewrites itself; nothing when stderr is not a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done}/{total} images", end="\n" if done == total else "", file=sys.stderr, flush=True)
