"""lad-edge train: images of good parts go in, a run folder comes out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lad_edge.cli.arguments import add_json, positive_float, positive_int, print_json, roi_px
from lad_edge.training.presets import DETECTORS, PRESETS, SCHEDULES, SIZES

_DETECTORS = {spelt: name for name in DETECTORS for spelt in (name, name.replace("_", "-"))}
_SETTINGS = ("backbone", "size", "side", "steps", "batch", "student_batch", "schedule", "seed", "margin")

_EPILOG = """\
examples:
  lad-edge train dfsc --data good_parts/ --out runs/part                a folder of good images (and good/ bad/ subfolders)
  lad-edge train dfsc --data mvtec_loco/juice_bottle --preset cpu        a quarter of an hour on one core
  lad-edge train efficient-ad --data part/ --photographs imagenet/      with the penalty on ordinary photographs
  lad-edge train ulsad --data part/ --preset cpu --set local_only=true --set consistency=false      its local branch alone
  lad-edge train ladmim --data mvtec_loco/ --categories all             one detector for all categories of a data set

detectors:
  dfsc          EfficientAD with the distinctive feature separation constraint: the better one for logical anomalies
  efficient-ad  EfficientAD as published: a little better on scratches, dents and stains
  ulsad         reconstructs the features of a frozen ImageNet network, from nearby and through a bottleneck
  fod           rebuilds such features from attention, within the picture and to the mean of the good parts
  ladmim        rebuilds the teacher's features from a few hundred codes, and predicts how many of each a hidden part holds

The paper trains 70 000 steps at size s (hours on a CPU, half an hour on a GPU); size xs is for boxes with a CPU only.
A run that was killed goes on where it was: give the same command again.
Next: lad-edge eval RUN, then lad-edge export RUN -o part.lad
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "train",
        help="train a detector from good images (workstation)",
        description="Trains a detector from images of good parts only.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("detector", choices=sorted(_DETECTORS), metavar="DETECTOR", help="see below")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder, MVTec AD (MPDD, BTAD), LOCO, 3D-AD, VisA"
    )
    parser.add_argument("--layout", default="auto", help="layout of the data; default: found out by looking")
    parser.add_argument(
        "--categories",
        metavar="NAMES",
        help="one detector for several categories of the data set at --data: names with commas between, or all",
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder; default: runs/DETECTOR-NAME-SIZE")
    parser.add_argument(
        "--preset",
        choices=("paper", "cpu"),
        default="paper",
        help="paper: the published recipe; cpu: small and quick, ten to twenty minutes on two cores. Other options come on top",
    )
    parser.add_argument("--size", choices=SIZES, help="dfsc, efficient-ad, ladmim: width of the networks; default: s")
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="ulsad, fod: frozen network (default: efficientnet-lite0, which comes by pip)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="ulsad, fod: weights of the backbone, torchvision or timm names; default: by pip, or downloaded once",
    )
    parser.add_argument(
        "--side", type=positive_int, metavar="PX", help="side of the network's square input; default: 256"
    )
    parser.add_argument("--steps", type=positive_int, metavar="N", help="training steps; default: the paper's")
    parser.add_argument("--batch", type=positive_int, metavar="N", help="images per step; default: the paper's")
    parser.add_argument(
        "--student-batch", type=positive_int, metavar="N", help="how many of them the student sees; default: all"
    )
    parser.add_argument("--lr", type=positive_float, metavar="X", help="learning rate; default: the paper's")
    parser.add_argument(
        "--schedule",
        choices=SCHEDULES,
        help="how the learning rate falls: to a tenth at the end, or as a cosine",
    )
    parser.add_argument(
        "--margin", type=positive_float, metavar="X", help="dfsc: margin of the constraint; default: 1.0"
    )
    parser.add_argument("--seed", type=int, help="default: 42")
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of the detector, for ablations; a wrong name lists them all",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="FILE",
        help="dfsc, efficient-ad, ladmim: weights of 'lad-edge train-teacher'; default: the ones that ship",
    )
    parser.add_argument(
        "--photographs", type=Path, metavar="DIR", help="efficient-ad: ordinary photographs for the penalty"
    )
    parser.add_argument("--roi", type=roi_px, metavar="X,Y,W,H", help="part of the frame that is inspected, in pixels")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: cuda where there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_json(parser, "print one JSON document at the end")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Trains, or resumes; returns 0."""
    from lad_edge.training.fit import FitOptions, fit

    detector = _DETECTORS[args.detector]
    given = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
    settings = PRESETS[detector][args.preset] | given | dict(args.set)
    if args.lr is not None:
        settings["learning_rate"] = args.lr
    kind = settings.get("size") or settings.get("backbone")
    name = "-".join(part for part in (detector, args.data.resolve().name, kind) if part)
    out = args.out or Path("runs") / name
    options = FitOptions(
        categories=_categories(args.categories),
        layout=args.layout,
        teacher=args.teacher,
        weights=args.weights,
        photographs=args.photographs,
        roi=args.roi,
        device=args.device,
        quiet=args.quiet or not sys.stderr.isatty(),
    )
    description = fit(detector, args.data, out, settings, options)
    if args.json:
        print_json(
            {"run": str(out), "detector": detector, "config": dict(description.config), **description.provenance}
        )
    else:
        print(
            f"trained {detector} on {len(description.train)} images in {description.provenance['train_seconds']} s: {out}"
        )
        first = next(iter(description.frames), "")
        chosen = f"{out} --category {first}" if first else str(out)
        print(f"next: lad-edge eval {chosen}   |   lad-edge export {chosen} -o {first or description.name}.lad")
    return 0


def _categories(text: str | None) -> tuple[str, ...] | None:
    """None: the data is one category. (): all that it holds."""
    if text is None:
        return None
    return () if text == "all" else tuple(text.split(","))


def _setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as JSON where it is JSON: numbers, true and false; otherwise the word itself."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"'{text}': expected NAME=VALUE, for example local_weight=0.5")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
