"""A lesson that has seen its parts goes in; the finished engine, proven here, and what a person should know of it come out."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.bundle import Bundle
from lad_edge.cli.judging import frames_of, score_of
from lad_edge.cli.showing import named
from lad_edge.errors import UsageError
from lad_edge.inspector import Inspector, Options
from lad_edge.sources.converted import Converted
from lad_edge.sources.opening import open_source
from lad_edge.sources.uri import redacted
from lad_edge.teaching import parts_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lad_edge.cli.showing import Showing
    from lad_edge.sources.source import Source
    from lad_edge.teaching import Lesson, Taught

_WANTED_RATE = 0.01  # of rejected good parts, for which the report counts the parts still missing


@dataclass(frozen=True)
class Finished:
    """fit_s: seconds that the fit took. The metrics of the engine hold what it says of known bad parts, if there are any."""

    taught: Taught
    fit_s: float


def open_bad(args: argparse.Namespace) -> list[Source]:
    """The folders of --bad; nothing is read yet. Raises SourceError, UsageError."""
    sources = [open_source(words) for words in args.bad]
    if any(source.live for source in sources):
        raise UsageError("--bad takes folders of pictures: nobody has looked at the parts of a live source")
    return [Converted(source, args.pixel_format) if args.pixel_format else source for source in sources]


def finish(args: argparse.Namespace, lesson: Lesson, bad: Sequence[Source]) -> Finished:
    """Fits, proves the engine on its golden frames, and measures bad parts. Raises DataError, ParityError."""
    start = time.perf_counter()
    taught = lesson.finish()
    fit_s = time.perf_counter() - start
    engine = Bundle(taught.manifest, taught.tensors, "", args.out)
    options = Options(args.runtime, lesson.runtime.precision, args.threads, maps_for=frozenset())
    with Inspector(engine, options) as inspector:
        metrics = _measured(inspector, taught, bad) if bad else {}
    return Finished(replace(taught, manifest=replace(taught.manifest, metrics=metrics)), fit_s)


def document(out: Path, sha256: str, finished: Finished, showing: Showing) -> dict[str, Any]:
    """What --json prints."""
    taught, calibration = finished.taught, next(iter(finished.taught.manifest.calibrations.values()))
    parts = len(taught.scores)
    return {
        "path": str(out),
        "sha256": sha256,
        "size_bytes": out.stat().st_size,
        "parts": parts,
        "side_px": taught.manifest.contract.size[0],
        "new_parts": parts - showing.before,
        "seconds": {"features": round(showing.seconds, 3), "fit": round(finished.fit_s, 3)},
        "threshold": calibration.threshold,
        "statement": taught.policy.statement,
        "parts_missing_for_1_percent": max(0, parts_for(_WANTED_RATE) - parts),
        "median_score": float(np.median(list(taught.scores.values()))),
        "odd": {name: taught.scores[name] for name in taught.odd},
        "twins": [list(pair) for pair in taught.twins],
        "hints": showing.hints,
        "unreadable": showing.unreadable,
        "repeated_frames": showing.repeated,
        "metrics": dict(taught.manifest.metrics),
    }


def text(report: Mapping[str, Any], args: argparse.Namespace) -> Iterator[str]:
    """The same in lines for a person."""
    seconds, before = report["seconds"], report["parts"] - report["new_parts"]
    came = f"{report['parts']} good parts" + (f", {report['new_parts']} of them new" if before else "")
    yield f"taught {came}, seen at {report['side_px']} px: features {seconds['features']:.1f} s, fit {seconds['fit']:.1f} s"
    yield f"threshold {report['threshold']:.5g}: {report['statement']}{_missing(report)}"
    yield from _worth_a_look(report, args)
    if report["metrics"]:
        yield (
            "{bad_found} of {bad_parts} bad parts are found at this threshold; image AUROC {image_auroc_against_taught:.3f} "
            "against the taught ones"
        ).format_map(report["metrics"])
    if "kept" in report:
        yield f"the pictures lie in {report['kept']}"
    yield f"wrote {report['path']} ({report['size_bytes'] / 2**20:.1f} MiB); next: {shlex.join(_next(report, args))}"


def _next(report: Mapping[str, Any], args: argparse.Namespace) -> Iterator[str]:
    """The command that judges with the new engine."""
    yield from ("lad-edge", "run", "--engine", report["path"])
    stream = args.camera is None and "kept" in report
    yield from ("--source", "URL") if stream else ("--camera", redacted(args.camera or "0"))
    if args.pixel_format:
        yield from ("--pixel-format", args.pixel_format)


def _measured(inspector: Inspector, taught: Taught, bad: Sequence[Source]) -> dict[str, Any]:
    """Scores of the bad parts against those that the good ones get from ridges that never saw them."""
    from lad_edge.metrics import auroc

    scores = np.array([score_of(inspector, frame, "--bad") for frame in frames_of(bad)])
    return {
        "image_auroc_against_taught": round(auroc(list(taught.scores.values()), scores), 4),
        "bad_parts": len(scores),
        "bad_found": int((scores > inspector.threshold).sum()),
    }


def _missing(report: Mapping[str, Any]) -> str:
    missing = report["parts_missing_for_1_percent"]
    return f"; ≤ {_WANTED_RATE * 100:g} % needs {missing} more good parts" if missing else ""


def _worth_a_look(report: Mapping[str, Any], args: argparse.Namespace) -> Iterator[str]:
    if report["unreadable"]:
        yield f"left out, {len(report['unreadable'])} that cannot be read: {named(report['unreadable'], '; ')}"
    if report["repeated_frames"]:
        yield f"left out, {report['repeated_frames']} frames that show the part of the frame before"
    for hint, parts in report["hints"].items():
        yield f"{hint}: {named(parts)}"
    if report["odd"]:
        odd = named([f"{name} (score {score:.3g})" for name, score in report["odd"].items()])
        yield f"look at them, they are far out of line (half of the parts are under {report['median_score']:.3g}): {odd}"
        how = f"with --leave-out {shlex.join(report['odd'])}" if args.add is None else "from all pictures but these"
        yield f"  if they are not good, teach anew {how}"
    if report["twins"]:
        yield f"the same part shown twice? {named([' = '.join(pair) for pair in report['twins']])}"
