"""lad-edge doctor: this machine goes in; what works, what does not, and what to do about it comes out."""

from __future__ import annotations

import argparse
import platform
import sys
from typing import TYPE_CHECKING

from lad_edge.cli.arguments import add_json, print_json
from lad_edge.cli.checks import CHECKS
from lad_edge.cli.trial import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_EPILOG = """\
Every line is the result of a real trial: each inference engine computes a small network, the native kernels are compared
with their reference, a picture is encoded and decoded, the disk is written to. Exit code 0: all that is needed works.
"""

_MARKS = {"ok": ("\033[32m", "ok  "), "warn": ("\033[33m", "warn"), "fail": ("\033[31m", "FAIL")}


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "doctor",
        help="check that this machine can run engines",
        description="Tries everything that lad-edge needs on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_json(parser, "the findings as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Prints each finding as soon as it is there."""
    return 0 if tell(_examine(), as_json=args.json) else 1


def tell(examined: Iterable[Finding], *, as_json: bool) -> bool:
    """Prints each finding as soon as it is there, or all of them as one document; says whether none is a failure."""
    findings = []
    for finding in examined:
        findings.append(finding)
        if not as_json:
            print(_finding_line(finding), flush=True)
    healthy = all(finding.status != "fail" for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": [finding.as_dict() for finding in findings]})
    return healthy


def _examine() -> Iterator[Finding]:
    yield Finding("machine", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    for name, check in CHECKS.items():
        yield from _guarded(name, check)


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A trial whose breakdown is a finding too: one broken part must not hide the others."""
    try:
        yield from check()
    except Exception as exc:
        yield Finding(name, "fail", f"{type(exc).__name__}: {exc}", "pip install --force-reinstall lad-edge")


def _finding_line(finding: Finding) -> str:
    """What a person reads: the mark, the name, what was found, and what to do."""
    colour, mark = _MARKS[finding.status]
    shown = f"{colour}{mark}\033[0m" if sys.stdout.isatty() else mark
    remedy = f"\n       → {finding.remedy}" if finding.remedy else ""
    return f"{shown}   {finding.name:<16} {finding.detail}{remedy}"
