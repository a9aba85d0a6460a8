"""lad-edge feedback: what an operator said of verdicts goes in; a better engine is proposed, put in place, or taken back."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lad_edge.cli.arguments import add_engine_options, add_json, print_json
from lad_edge.cli.recorded import RECORDS_HELP
from lad_edge.errors import UsageError
from lad_edge.thresholds import POLICY_HELP
from lad_edge.values import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lad_edge.cli.kept_parts import KeptPart
    from lad_edge.cli.proposing import Proposal, Said, Told

_PROPOSED = ".proposed"
_MOST_SHOWN = 10

_EPILOG = """\
examples:
  lad-edge run --engine part.lad --camera 0 --out images:parts?ok=20       keeps parts with their records
  lad-edge feedback propose part.lad parts --false-reject 118 240          these were good: part.proposed.lad
  lad-edge feedback propose part.lad parts --missed 97                     this one was bad and released
  lad-edge feedback propose part.lad parts --labels labels                 what operators said on the page
  lad-edge feedback propose part.lad line.sqlite --pictures parts --false-reject tray-17    by the name that the trigger gave it
  lad-edge feedback apply part.proposed.lad                                in place of part.lad, which is kept beside it
  lad-edge feedback rollback part.lad                                      and back

Parts are named by the seq or the id in their record. With the records of all parts (sqlite:, .jsonl) a proposal says how many of them
a new threshold would have rejected. A taught engine learns the false rejects as good parts, which takes a second; any other gets
a new threshold. Nothing changes before 'apply'; a line that runs goes on with the engine that it has read.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "feedback",
        help="make an engine better by what the operator said of its verdicts",
        description="Proposes a better engine from false rejects and missed parts, and says first what it would change.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="propose|apply|rollback", required=True)
    _add_propose(actions)
    _add_apply(actions)
    _add_rollback(actions)


def _add_propose(actions: argparse._SubParsersAction[Any]) -> None:
    parser = actions.add_parser("propose", help="make a better engine, and say what it would change")
    parser.add_argument("engine", type=Path, metavar="X.lad", help="that judged the parts")
    parser.add_argument("records", type=Path, metavar="RECORDS", help=f"what 'lad-edge run' wrote: {RECORDS_HELP}")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="of --out images:FOLDER, for the records of a file"
    )
    parser.add_argument("--false-reject", nargs="+", default=[], metavar="PART", help="good parts that were rejected")
    parser.add_argument("--missed", nargs="+", default=[], metavar="PART", help="bad parts that were OK")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FOLDER",
        help="of 'lad-edge run --dashboard-labels': what operators said on the page",
    )
    parser.add_argument("--policy", metavar="POLICY", help=POLICY_HELP.replace("%", "%%") + " (default: as before)")
    parser.add_argument(
        "--most-false-rejects",
        type=_rate,
        default=0.1,
        metavar="SHARE",
        help="of the good parts, so many may be rejected for the sake of a missed part (default: 10%%)",
    )
    parser.add_argument("-o", "--out", type=Path, metavar="Y.lad", help="default: X.proposed.lad beside the engine")
    add_engine_options(parser)
    add_json(parser, "one JSON document: what would change")
    parser.set_defaults(func=run_propose)


def _add_apply(actions: argparse._SubParsersAction[Any]) -> None:
    parser = actions.add_parser("apply", help="put the proposed engine in place; the old one is kept beside it")
    parser.add_argument("proposal", type=Path, metavar="X.proposed.lad")
    parser.add_argument("--engine", type=Path, metavar="X.lad", help="default: the name without .proposed")
    parser.set_defaults(func=run_apply)


def _add_rollback(actions: argparse._SubParsersAction[Any]) -> None:
    parser = actions.add_parser("rollback", help="put the engine of before back")
    parser.add_argument("engine", type=Path, metavar="X.lad")
    parser.set_defaults(func=run_rollback)


def run_propose(args: argparse.Namespace) -> int:
    """Writes the proposal and says what it would change."""
    from lad_edge import bundle
    from lad_edge.cli.kept_parts import named_parts, read_kept
    from lad_edge.cli.proposing import Said, check_said, propose
    from lad_edge.cli.recorded import pictures_beside, read_records
    from lad_edge.inspector import Options

    engine, records = bundle.read(args.engine), read_records(args.records)
    parts = read_kept(pictures_beside(args.records, args.pictures))
    if engine.manifest.kind != "lad":
        raise UsageError(f"{args.engine} is a plan; propose for the .lad that it was built from, and build it again")
    said = Said(
        [*named_parts(parts, records, args.false_reject, "--false-reject"), *_labelled(args, parts, "false_reject")],
        [*named_parts(parts, records, args.missed, "--missed"), *_labelled(args, parts, "missed")],
    )
    check_said(engine, said)
    options = Options(args.runtime, args.precision, args.threads, maps_for=frozenset())
    proposal = propose(engine, parts, said, options, args.policy, args.most_false_rejects)
    out = args.out or args.engine.with_name(f"{args.engine.stem}{_PROPOSED}{args.engine.suffix}")
    change = bundle.Change(engine.sha256, datetime.now(timezone.utc).isoformat(timespec="seconds"), _why(said))
    sha256 = bundle.write(out, bundle.changed(proposal.manifest, change, engine.manifest), proposal.tensors)
    own = [record for record in records if record["engine_sha256"] == engine.sha256]
    report = _document(proposal, said, parts, own) | {"path": str(out), "sha256": sha256}
    if args.json:
        print_json(report)
    else:
        print("\n".join(_text(report)))
    return 0


def _labelled(args: argparse.Namespace, parts: list[KeptPart], label: str) -> list[KeptPart]:
    from lad_edge.cli.kept_parts import labelled_parts

    if args.labels is None:
        return []
    found, gone = labelled_parts(parts, args.labels, label)
    if gone:
        print(
            f"{gone} parts that were called {label} are not among the pictures that were kept; they are left out",
            file=sys.stderr,
        )
    return found


def run_apply(args: argparse.Namespace) -> int:
    """Puts the proposal in place."""
    from lad_edge import bundle

    name = args.proposal.name
    if args.engine is None and f"{_PROPOSED}." not in name:
        raise UsageError(f"{name} does not say which engine it is for; name it with --engine X.lad")
    engine = args.engine or args.proposal.with_name(name.replace(f"{_PROPOSED}.", "."))
    kept = bundle.put_in_place(args.proposal, engine)
    print(
        f"{engine} is the proposed engine now; the one of before is {kept}: 'lad-edge feedback rollback {engine}' brings it back"
    )
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    """Puts the engine of before back."""
    from lad_edge import bundle

    before = bundle.roll_back(args.engine)
    print(f"{args.engine} is the engine of before again, sha256 {before.sha256}")
    return 0


def _rate(text: str) -> float:
    """`10%` → 0.1."""
    from lad_edge.cli.arguments import finite_float

    value = finite_float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share such as 10%, came '{text}'")
    return value


def _why(said: Said) -> str:
    counted = (("false rejects", said.false_rejects), ("missed", said.missed))
    return ", ".join(f"{len(parts)} {words}" for words, parts in counted if parts)


def _document(
    proposal: Proposal, said: Said, parts: list[KeptPart], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What --json prints. records: of all parts that the engine judged."""
    before, after = proposal.before, proposal.after
    known = [part for part in parts if part.name in after.verdicts]
    return {
        "threshold": {"before": before.threshold, "after": after.threshold},
        "statement": next(iter(proposal.manifest.calibrations.values())).policy.statement,
        "expected_false_rejects": {"before": before.expected_false_rejects, "after": after.expected_false_rejects},
        "kept_parts": {
            "before": _counts(before, said, known),
            "after": _counts(after, said, known),
            "left_out": proposal.left_out,
        },
        "recorded_parts": _history(proposal, said, records),
        "changed": {
            part.name: [before.verdicts[part.name].value, after.verdicts[part.name].value]
            for part in known
            if before.verdicts[part.name] is not after.verdicts[part.name]
        },
        "missed_are_found": proposal.caught,
    }


def _history(proposal: Proposal, said: Said, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the recorded parts that nobody called bad: how many there are, and how many lie above each threshold.

    after: None for an engine that was fitted again, which scores otherwise.
    """
    from lad_edge.cli.kept_parts import moment

    bad = {moment(part.record) for part in said.missed}
    scores = [float(each["score"]) for each in records if each["score"] is not None and moment(each) not in bad]
    before, after = (sum(score > told.threshold for score in scores) for told in (proposal.before, proposal.after))
    return {"judged": len(scores), "rejected": {"before": before, "after": None if proposal.refitted else after}}


def _counts(told: Told, said: Said, parts: list[KeptPart]) -> dict[str, int]:
    """Of the kept parts: good ones and how many are not OK, bad ones and how many are."""
    good = [told.verdicts[part.name] for part in parts if said.is_good(part)]
    bad = [told.verdicts[part.name] for part in parts if not said.is_good(part)]
    return {
        "good": len(good),
        "false_rejects": sum(verdict is not Verdict.OK for verdict in good),
        "bad": len(bad),
        "missed": sum(verdict is Verdict.OK for verdict in bad),
    }


def _text(report: Mapping[str, Any]) -> Iterator[str]:
    """The same in lines for a person."""
    threshold, expected, kept = report["threshold"], report["expected_false_rejects"], report["kept_parts"]
    yield f"threshold {threshold['before']:.5g} → {threshold['after']:.5g}: {report['statement']}"
    yield f"good parts that it rests on, and that lie above it: {expected['before']:.1%} → {expected['after']:.1%}"
    for when in ("before", "after"):
        yield f"kept parts {when}: {{false_rejects}} of {{good}} good ones rejected, {{missed}} of {{bad}} bad ones missed".format_map(
            kept[when]
        )
    yield "  (good and bad by what was said, else by the verdict; of OK parts only those are kept that --out asks for)"
    judged, rejected = report["recorded_parts"]["judged"], report["recorded_parts"]["rejected"]
    if rejected["after"] is not None:
        yield (
            f"all {judged} recorded parts that nobody called bad: {rejected['before']} rejected before, {rejected['after']} after"
        )
    if kept["left_out"]:
        yield f"  {kept['left_out']} kept parts are left out: judged by another engine, or without a picture"
    for name, (was, now) in list(report["changed"].items())[:_MOST_SHOWN]:
        yield f"  part {name}: {was} → {now}"
    if len(report["changed"]) > _MOST_SHOWN:
        yield f"  and {len(report['changed']) - _MOST_SHOWN} more"
    if not report["missed_are_found"]:
        yield (
            "a missed part still passes: a threshold under it would reject more good parts than --most-false-rejects allows; look at light "
            "and focus, show more good parts, or train a detector"
        )
    yield f"wrote {report['path']}; next: lad-edge feedback apply {report['path']}"
