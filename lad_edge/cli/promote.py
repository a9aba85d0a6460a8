"""lad-edge promote: the trial of another engine goes in; that engine comes out in charge of the running line, the old one is kept."""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lad_edge.cli.arguments import add_json, positive_int, print_json
from lad_edge.errors import EngineError, SinkError, UsageError

if TYPE_CHECKING:
    from lad_edge.stream.trial_record import Standing

PROMOTIONS = "promotions.jsonl"
LEAST_PARTS = 300
_TAKEN_S = 60.0  # for the line to open and prove the engine
_POLL_S = 0.1

_EPILOG = """\
examples:
  lad-edge run -c line3.toml            # with shadow = "next.lad" and shadow-out = "trial"
  lad-edge promote trial                # next.lad takes the place of the line's engine, between two parts
  lad-edge promote trial --back         # and back

The engine file that the line names is replaced by a copy of the shadow, at once or not at all; the old one stays beside it under a name
with its sha256. The running line opens it, proves it on its golden frames, and judges with it from the next part on; if it refuses, the
old file is put back. No part is lost meanwhile.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "promote",
        help="put the engine on trial in charge of the line",
        description="Replaces the engine of a line by the one that 'run --shadow' has tried beside it, or puts the old one back.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of 'lad-edge run --shadow-out'")
    parser.add_argument(
        "--least",
        type=positive_int,
        default=LEAST_PARTS,
        metavar="N",
        help=f"parts that both engines must have judged; default: {LEAST_PARTS}",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--force", action="store_true", help="however few parts the shadow has judged")
    how.add_argument("--back", action="store_true", help="put the engine back that was in charge before")
    add_json(parser, "one JSON document: what was put where")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Replaces the file, has the line take it over, says what was done."""
    from lad_edge.stream.trial_record import running_pid

    other, engine, evidence = _before(args.folder) if args.back else _on_trial(args)
    pid = running_pid(args.folder)
    done = {**_exchange(other, engine, args.folder, pid), "evidence": evidence, "line": pid}
    _note(args.folder, done)
    if args.json:
        print_json(done)
        return 0
    where = "the line judges with it" if pid is not None else "no line runs: it judges from its next start on"
    print(f"{evidence}\n{engine} is {other.name} now: {where}\nthe engine of before is kept as {done['kept']}")
    return 0


def _on_trial(args: argparse.Namespace) -> tuple[Path, Path, str]:
    """The shadow, the engine that it replaces, and what speaks for it. Raises UsageError."""
    from lad_edge import bundle
    from lad_edge.stream.trial_record import read_standing

    standing = read_standing(args.folder)
    if standing.shadow_sha256 == standing.engine_sha256:
        raise UsageError(f"{standing.engine} is the engine on trial already; --back puts the one before in its place")
    for path, sha256 in ((standing.engine, standing.engine_sha256), (standing.shadow, standing.shadow_sha256)):
        if bundle.read(Path(path)).sha256 != sha256:
            raise UsageError(
                f"{path} is another file than the line runs: reload the line, and let the trial begin anew"
            )
    if standing.parts < args.least and not args.force:
        raise UsageError(
            f"the shadow has judged {standing.parts} of {args.least} parts: wait, or take fewer with --least, or --force"
        )
    return Path(standing.shadow), Path(standing.engine), _evidence(standing)


def _evidence(standing: Standing) -> str:
    from lad_edge.stream.shadow import mcnemar

    line_only, shadow_only = standing.pairs.get("NG/OK", 0), standing.pairs.get("OK/NG", 0)
    agree = sum(count for pair, count in standing.pairs.items() if len(set(pair.split("/"))) == 1)
    return (
        f"{agree} of {standing.parts} verdicts agree; rejected by the engine of before alone {line_only}, by this one alone "
        f"{shadow_only} (McNemar p {mcnemar(line_only, shadow_only):.3g}); {standing.skipped} parts were judged by one only"
    )


def _before(folder: Path) -> tuple[Path, Path, str]:
    """The engine that was replaced last, its place, and when that was. Raises UsageError."""
    try:
        last = json.loads((folder / PROMOTIONS).read_text(encoding="utf-8").splitlines()[-1])
        return Path(last["kept"]), Path(last["engine"]), f"in charge before {last['utc']}"
    except (OSError, ValueError, KeyError, IndexError) as exc:
        raise UsageError(f"{folder} knows of no engine that was replaced: there is nothing to go back to") from exc


def _exchange(other: Path, engine: Path, folder: Path, pid: int | None) -> dict[str, Any]:
    """Raises EngineError when the line refuses; then the file is what it was."""
    from lad_edge import bundle
    from lad_edge.bundle.lineage import put_copy_in_place
    from lad_edge.stream.trial_record import read_standing

    sha256, before = bundle.read(other).sha256, read_standing(folder)
    _signal(pid, 0)  # may we at all?
    kept = put_copy_in_place(other, engine)
    _signal(pid, signal.SIGHUP)
    if pid is not None and (why := _refusal(folder, pid, sha256, before.refusals)):
        put_copy_in_place(kept, engine)
        raise EngineError(f"the line has not taken {other.name} over: {why}; {engine} is what it was")
    moment = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"utc": moment, "engine": str(engine), "kept": str(kept), "engine_sha256": sha256}


def _signal(pid: int | None, number: int) -> None:
    """Raises UsageError where we may not send it."""
    try:
        if pid is not None:
            os.kill(pid, number)
    except PermissionError as exc:
        raise UsageError(f"the line (process {pid}) belongs to somebody else: sudo lad-edge promote …") from exc


def _refusal(folder: Path, pid: int, sha256: str, refusals: int) -> str:
    """Waits for what the line says: "" when it judges with this engine, else why it does not."""
    from lad_edge.stream.trial_record import read_standing, running_pid

    limit_s = time.monotonic() + _TAKEN_S
    while time.monotonic() < limit_s and running_pid(folder) == pid:
        now = read_standing(folder)
        if now.engine_sha256 == sha256:
            return ""
        if now.refusals > refusals:
            return now.refused
        time.sleep(_POLL_S)
    return f"no word of process {pid} within {_TAKEN_S:g} s"


def _note(folder: Path, done: dict[str, Any]) -> None:
    try:
        with (folder / PROMOTIONS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(done) + "\n")
    except OSError as exc:
        raise SinkError(
            f"{folder / PROMOTIONS} cannot be written ({exc.strerror}); the engine of before is {done['kept']}"
        ) from exc
