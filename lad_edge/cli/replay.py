"""lad-edge replay: decisions that were recorded go in, and the pictures they were made on; the same decisions come out, or why not."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge import __version__
from lad_edge.cli.arguments import add_engine_options, add_json, positive_int, print_json
from lad_edge.cli.recorded import RECORDS_HELP
from lad_edge.errors import DataError, ParityError
from lad_edge.values import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lad_edge.cli.kept_parts import KeptPart
    from lad_edge.inspector import Inspector

    Record = Mapping[str, Any]

DIFFERS_EXIT = ParityError.exit_code

Said = dict[str, Any]

_EPILOG = """\
examples:
  lad-edge replay ng-parts --engine part.lad                     every picture that was kept by --out images:ng-parts
  lad-edge replay line.sqlite --pictures ng-parts --engine part.lad --frame 1207
  lad-edge replay line.sqlite --pictures ng-parts --engine next.lad    what another engine would have said

Scores are compared bit by bit. Exit code 0: all that was judged again is identical; 3: something differs.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "replay",
        help="judge recorded parts again and compare",
        description="Judges parts again whose records and pictures were kept, and says whether the decisions are the same.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("records", type=Path, metavar="RECORDS", help=RECORDS_HELP)
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="of --out images:FOLDER, for the records of a file"
    )
    parser.add_argument("--engine", type=Path, required=True, metavar="X.lad", help="which judges them again")
    parser.add_argument("--frame", type=positive_int, metavar="SEQ", help="this part only")
    add_engine_options(parser)
    add_json(parser, "one JSON document: counts, and what is not identical")
    parser.set_defaults(func=run)


@dataclass(frozen=True)
class Replayed:
    """One record beside what is said now. why: reasons to expect another answer; empty = there is none, so it must be identical.

    state: "identical", "differs", or how it is that it could not be judged again. late: it was judged after its deadline, and the part was
    UNKNOWN.
    """

    seq: int
    state: str
    was: Said = field(default_factory=dict)
    now: Said = field(default_factory=dict)
    why: tuple[str, ...] = ()
    late: bool = False

    def text(self) -> str:
        """For a person."""
        late = ", came too late" if self.late else ""
        if self.state != "differs":
            return f"{self.seq:8d}  {self.state}{late}"
        was, now = (f"{said['verdict']} ({said['score']!r})" for said in (self.was, self.now))
        return f"{self.seq:8d}  was {was}{late}, is {now}: {'; '.join(self.why) or 'nothing that was recorded explains it'}"


def run(args: argparse.Namespace) -> int:
    """Judges again, prints what differs, and a summary."""
    from lad_edge import bundle
    from lad_edge.cli.kept_parts import moment, read_kept
    from lad_edge.cli.recorded import pictures_beside, read_records
    from lad_edge.inspector import Inspector, Options

    records = [record for record in read_records(args.records) if args.frame in (None, record["seq"])]
    kept = read_kept(pictures_beside(args.records, args.pictures))
    if not records:
        what = "no record" if args.frame is None else f"no part {args.frame}"
        raise DataError(f"{args.records} holds {what}")
    options = Options(args.runtime, args.precision, args.threads, maps_for=frozenset())
    with Inspector(bundle.read(args.engine), options) as inspector:
        parts = {moment(part.record): part for part in kept}
        replayed = [
            replace(_replay(inspector, record, parts.get(moment(record))), late=record.get("late", False))
            for record in records
        ]
    _tell(args, replayed)
    return DIFFERS_EXIT if any(each.state == "differs" for each in replayed) else 0


def _tell(args: argparse.Namespace, replayed: list[Replayed]) -> None:
    states = Counter(each.state for each in replayed)
    if args.json:
        print_json({"states": states, "parts": [vars(each) for each in replayed if each.state != "identical"]})
        return
    for each in replayed:
        if each.state != "identical" or args.frame is not None:
            print(each.text())
    late = sum(each.late for each in replayed)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    print(f"{len(replayed)} records: {told}" + (f"; {late} came too late" if late else ""))


def _replay(inspector: Inspector, record: Record, part: KeptPart | None) -> Replayed:
    seq, was = int(record["seq"]), _said(record["score"], record["threshold"])
    if record["score"] is None:
        return Replayed(seq, "not judged then")
    if part is None or not part.picture.is_file():
        return Replayed(seq, "without a picture", was)
    try:
        frame = part.frame(inspector.bundle.manifest.contract.pixel_format)
    except DataError:
        return Replayed(seq, "with another picture than was judged", was)
    result = inspector(np.asarray(frame.image, np.uint8), frame.pixel_format)
    now = _said(result.score, inspector.threshold)
    if now == was:
        return Replayed(seq, "identical", was, now)
    return Replayed(seq, "differs", was, now, tuple(_why(inspector, record)))


def _said(score: float | None, threshold: float) -> Said:
    """What the score alone says: lateness and repeats belong to that moment, not to the picture."""
    verdict = None if score is None else (Verdict.OK if score <= threshold else Verdict.NG).value
    return {"verdict": verdict, "score": score, "threshold": threshold}


def _why(inspector: Inspector, record: Record) -> Iterator[str]:
    """Reasons to expect another answer."""
    here = {"lad_edge": __version__, "runtime": inspector.engine_name}
    if record["engine_sha256"] != inspector.bundle.sha256:
        yield f"another engine ({record['engine_sha256'][:12]} then, {inspector.bundle.sha256[:12]} now)"
    elif record["threshold"] != inspector.threshold:
        yield f"another threshold ({record['threshold']:g} then, {inspector.threshold:g} now)"
    for name, version in record["versions"].items():
        if here.get(name) not in (None, version):
            yield f"{name} {version} then, {here[name]} now"
