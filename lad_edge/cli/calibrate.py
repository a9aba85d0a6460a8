"""lad-edge calibrate: an engine file and a policy go in; the same engine with another threshold comes out."""

from __future__ import annotations

import argparse
from pathlib import Path

from lad_edge.bundle import Bundle, Policy, read, replace_threshold
from lad_edge.cli.arguments import add_json, print_json
from lad_edge.thresholds import POLICY_HELP, Threshold, choose, parse_policy

_EPILOG = """\
policies:
  conformal:1%      at most 1 % of the good parts to come are rejected, for any distribution; needs 99 good images
  quantile:0.995    that quantile of the good scores; no proof
  fixed:0.12        this value

examples:
  lad-edge calibrate part.lad --policy conformal:2%
  lad-edge calibrate part.lad --policy fixed:0.12 -o part-strict.lad

The scores of the good validation images stand in the file, for each precision; no image and no training is needed.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "calibrate",
        help="choose another threshold for an engine",
        description="Sets the threshold of an engine file from the scores of good images that it holds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="X.lad")
    parser.add_argument("--policy", required=True, metavar="POLICY", help=POLICY_HELP.replace("%", "%%"))
    parser.add_argument("-o", "--out", type=Path, metavar="Y.lad", help="default: the file itself, replaced at once")
    add_json(parser, "the old and new thresholds as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Writes the bundle with its new thresholds and says what changed."""
    policy, parameter = parse_policy(args.policy)
    bundle, out = read(args.file), args.out or args.file
    chosen = {name: choose(bundle.scores(name), policy, parameter) for name in bundle.manifest.calibrations}
    sha256 = replace_threshold(args.file, out, {name: _for_bundle(threshold) for name, threshold in chosen.items()})
    if args.json:
        print_json({"path": str(out), "sha256": sha256, "thresholds": _document(bundle, chosen)})
    else:
        for precision, threshold in chosen.items():
            old = bundle.manifest.calibrations[precision].threshold
            print(f"{out}: {precision}: threshold {old:.6g} → {threshold.value:.6g} ({threshold.statement})")
    return 0


def _for_bundle(threshold: Threshold) -> tuple[float, Policy]:
    return threshold.value, Policy(threshold.policy, threshold.parameter, threshold.n, threshold.statement)


def _document(bundle: Bundle, chosen: dict[str, Threshold]) -> dict[str, object]:
    return {
        precision: {
            "old": bundle.manifest.calibrations[precision].threshold,
            "new": threshold.value,
            "policy": threshold.policy,
            "parameter": threshold.parameter,
            "n": threshold.n,
            "statement": threshold.statement,
        }
        for precision, threshold in chosen.items()
    }
