"""lad-edge calibrate: an engine file and a policy go in; the same engine with another threshold comes out.

With good pictures the scores that the threshold rests on are measured again, by the engine that runs here.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.bundle import Bundle, Change, Manifest, Policy, changed, put_in_place, read, rethresholded, write
from lad_edge.cli.arguments import add_engine_options, add_json, print_json
from lad_edge.cli.judging import frames_of, score_of
from lad_edge.errors import UsageError
from lad_edge.thresholds import POLICY_HELP, Threshold, choose, parse_policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lad_edge.sources.source import Source

_EPILOG = """\
policies:
  conformal:1%      at most 1 % of the good parts to come are rejected, for any distribution; needs 99 good images
  quantile:0.995    that quantile of the good scores; no proof
  fixed:0.12        this value

examples:
  lad-edge calibrate part.lad --policy conformal:2%
  lad-edge calibrate part.lad --policy fixed:0.12 -o part-strict.lad
  lad-edge calibrate part.plan --policy conformal:2% --good this-week/good

The scores of the good validation images stand in the file, for each precision; no image and no training is needed. --good replaces those
of the precision that runs here by the scores of other good pictures, which no training has seen: after a change of light or camera, or
for a plan whose precision nobody has calibrated. 'lad-edge feedback rollback part.lad' takes back what was done to the file itself.
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
    parser.add_argument("file", type=Path, metavar="X.lad", help="or a plan")
    parser.add_argument("--policy", required=True, metavar="POLICY", help=POLICY_HELP.replace("%", "%%"))
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="Y.lad",
        help="default: the file itself, replaced at once; the old one is kept beside it",
    )
    parser.add_argument(
        "--good", metavar="FOLDER|VIDEO", help="pictures of good parts: measure their scores by the engine first"
    )
    add_engine_options(parser)
    add_json(parser, "the old and new thresholds as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Writes the bundle with its new thresholds and says what changed."""
    policy, parameter = parse_policy(args.policy)
    bundle, out = read(args.file), args.out or args.file
    measured = {} if args.good is None else _measured(bundle, args)
    scores = measured or {name: bundle.scores(name) for name in bundle.manifest.calibrations}
    chosen = {name: choose(values, policy, parameter) for name, values in scores.items()}
    thresholds = {name: _for_bundle(threshold) for name, threshold in chosen.items()}
    manifest, tensors = rethresholded(bundle, thresholds, measured)
    in_place = args.out is None
    sha256 = _in_place(bundle, manifest, tensors, args.policy) if in_place else write(out, manifest, tensors)
    if args.json:
        print_json({"path": str(out), "sha256": sha256, "thresholds": _document(bundle, chosen)})
    else:
        for precision, threshold in chosen.items():
            old = bundle.manifest.calibrations[precision].threshold
            print(f"{out}: {precision}: threshold {old:.6g} → {threshold.value:.6g} ({threshold.statement})")
    return 0


def _in_place(old: Bundle, manifest: Manifest, tensors: Mapping[str, NDArray[Any]], policy: str) -> str:
    """Replaces the file, keeps the old one beside it, and says so in the manifest: 'feedback rollback' undoes it. Returns the sha256."""
    file = old.path
    change = Change(old.sha256, datetime.now(timezone.utc).isoformat(timespec="seconds"), f"calibrate {policy}")
    proposal = file.with_name(f".{file.name}.calibrated")
    try:
        sha256 = write(proposal, changed(manifest, change, old.manifest), tensors)
        put_in_place(proposal, file)
    finally:
        proposal.unlink(missing_ok=True)  # there is one only after a failure
    return sha256


def _measured(bundle: Bundle, args: argparse.Namespace) -> dict[str, NDArray[np.float64]]:
    """Precision that runs here → the scores of good pictures. Raises DataError for a picture that cannot be judged."""
    from lad_edge.inspector import Inspector, Options

    options = Options(args.runtime, args.precision, args.threads, maps_for=frozenset())
    with Inspector(bundle, options) as inspector:
        scores = [score_of(inspector, frame, "--good") for frame in frames_of([_recorded(args.good)])]
        return {inspector.runtime.precision: np.sort(np.array(scores, np.float64))}


def _recorded(text: str) -> Source:
    from lad_edge.sources.opening import open_source

    source = open_source(text)
    if source.live:
        raise UsageError("--good takes files: nobody has looked at the parts of a live source")
    return source


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
