"""lad-edge export: a run folder goes in, one verified engine file comes out."""

from __future__ import annotations

import argparse
from pathlib import Path

from lad_edge.cli.arguments import add_json, positive_int, print_json
from lad_edge.thresholds import POLICY_HELP

_EPILOG = """\
examples:
  lad-edge export runs/part -o part.lad
  lad-edge export runs/part -o part.lad --policy conformal:1%
  lad-edge export runs/part -o part.lad --precision f32
  lad-edge export runs/ladmim-mvtec_loco-s --category juice_bottle -o juice_bottle.lad

The file holds everything that the edge needs: the network, calibration, threshold, golden frames for the self-test. Scores and
verdicts of torch and of the exported pipeline are compared on at least 32 images; nothing is written if they differ.
Next: lad-edge run --engine part.lad --camera 0
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "export",
        help="turn a trained detector into one .lad file (workstation)",
        description="Exports, calibrates and verifies a trained detector; writes one self-contained engine file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder written by 'lad-edge train'")
    parser.add_argument("-o", "--out", type=Path, metavar="X.lad", help="default: NAME.lad in the run folder")
    parser.add_argument(
        "--category", metavar="NAME", help="of a run for several categories: the one that the engine is for"
    )
    parser.add_argument(
        "--policy", default="conformal:5%", metavar="P", help=POLICY_HELP.replace("%", "%%") + " (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        action="append",
        choices=("f32", "bf16"),
        help="repeat for several; default: all that this CPU has",
    )
    parser.add_argument(
        "--golden",
        type=positive_int,
        default=2,
        metavar="N",
        help="good frames for the self-test (default: %(default)s)",
    )
    parser.add_argument(
        "--border",
        choices=("zero", "replicate"),
        default="zero",
        help="value of the border that the network cannot see",
    )
    parser.add_argument(
        "--by-place",
        action=argparse.BooleanOptionalAction,
        help="judge each place of the maps by what the training images show there, which finds faint defects beside highlights and edges "
        "that every good part has (default: on for efficient_ad and dfsc; --no-by-place is the papers' way)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="where the data set is now, if it has moved since the training"
    )
    parser.add_argument(
        "--no-gates",
        action="store_true",
        help="judge pictures whatever their light, focus and place (default: those unlike the validation images are UNKNOWN)",
    )
    parser.add_argument("--threads", type=positive_int, metavar="N")
    parser.add_argument(
        "--no-test", dest="test", action="store_false", help="do not measure the engine on the test images"
    )
    add_json(parser, "print one JSON document")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Exports; returns 0."""
    from lad_edge.export.export import ExportOptions, export_run
    from lad_edge.training.run_folder import read_description

    out = args.out or args.run / f"{read_description(args.run).of(args.category).name}.lad"
    precisions = tuple(args.precision) if args.precision else None
    options = ExportOptions(
        args.policy,
        precisions,
        args.golden,
        args.border,
        args.threads,
        args.data,
        args.by_place,
        args.test,
        args.category,
        not args.no_gates,
    )
    report = export_run(args.run, out, options)
    if args.json:
        print_json(report)
        return 0
    for precision, parity in report["parity"].items():
        print(
            f"{precision}: {parity['verdicts_equal']} of {parity['images']} verdicts as in torch, "
            f"largest relative error of the score {parity['max_relative_error']:.2g} ({parity['runtime']})"
        )
    print(f"threshold {report['thresholds']['f32']:.5g}: {report['statement']}")
    if report["far_out"]:
        names = ", ".join(f"{name} ({score:.3g})" for name, score in report["far_out"].items())
        print(
            f"far above the other validation images, and they raise the threshold: {names}; look whether these parts are good, and whether "
            "the training shows such parts too"
        )
    if report["metrics"]:
        print(
            f"test: image AUROC {report['metrics']['image_auroc']}, pixel AUROC {report['metrics'].get('pixel_auroc', 'not measured')}"
        )
    print(f"wrote {out}; next: lad-edge run --engine {out} --camera 0")
    return 0
