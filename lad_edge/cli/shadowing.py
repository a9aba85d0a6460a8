"""--shadow of `lad-edge run`: words go in, a second engine on the same parts comes out, which a reload exchanges."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.errors import UsageError

if TYPE_CHECKING:
    from lad_edge.bundle import Bundle
    from lad_edge.stream.shadow import Shadow
    from lad_edge.stream.trial_record import Standing, TrialRecord


def add_shadow_options(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    group = parser.add_argument_group("another engine on trial")
    group.add_argument(
        "--shadow",
        type=Path,
        metavar="Y.lad",
        help="judges the same parts in spare time, on one thread; its verdicts are counted only; 'lad-edge promote' puts it in charge",
    )
    group.add_argument(
        "--shadow-out",
        type=Path,
        metavar="FOLDER",
        help="keep the parts on which both engines disagree, and how the trial stands",
    )


class Trial:
    """The shadow of a line, if it has one. start: both engines, None without --shadow; record: of --shadow-out."""

    def __init__(
        self, shadow: Shadow | None = None, start: Standing | None = None, record: TrialRecord | None = None
    ) -> None:
        self.shadow, self.start, self.record = shadow, start, record

    @property
    def sinks(self) -> list[Shadow]:
        """What the line writes to."""
        return [] if self.shadow is None else [self.shadow]

    def begin(self) -> None:
        """Says which engines are compared, and how they stand now."""
        with suppress(
            OSError
        ):  # a disk that is full is no reason to stop a line: `promote` hears nothing, and goes back
            if self.record is not None:
                self.record.tell_now(self.standing())

    def refuse(self, why: str) -> None:
        """Says that the line goes on as it was."""
        if self.start is not None:
            self.start = replace(self.start, refusals=self.start.refusals + 1, refused=why)
            self.begin()

    def standing(self) -> Standing:
        """How often which pair of verdicts was given. Only with a start."""
        assert self.start is not None  # noqa: S101 - whoever writes a record has one
        if self.shadow is None:
            return self.start
        pairs = {f"{line.value}/{mine.value}": count for (line, mine), count in self.shadow.counts.copy().items()}
        return replace(self.start, pairs=pairs, skipped=self.shadow.skipped)

    def table(self) -> str:
        """How both engines compare, for a person; "" without a shadow."""
        return "" if self.shadow is None else self.shadow.table()

    def compares(self, start: Standing) -> bool:
        """Whether these engines are the ones that it compares."""
        return self.start is not None and (self.start.engine_sha256, self.start.shadow_sha256) == (
            start.engine_sha256,
            start.shadow_sha256,
        )

    def without(self, other: Trial) -> Trial:
        """What of it may be closed while the other one goes on: a record that both share may not."""
        return Trial(self.shadow, self.start, None if self.record is other.record else self.record)

    def exchange(self, other: Trial) -> Trial:
        """Becomes the other one; what is over comes back, to be closed."""
        over = self.without(other)
        self.shadow, self.start, self.record = other.shadow, other.start, other.record
        return over

    def close(self) -> None:
        """Ends it."""
        if self.shadow is not None:
            self.shadow.close()
        if self.record is not None:
            self.record.close()


def shadow_engine(args: argparse.Namespace) -> Bundle | None:
    """What --shadow names, read and not started. Raises UsageError, BundleError."""
    from lad_edge import bundle

    if args.shadow is not None:
        return bundle.read(args.shadow)
    if args.shadow_out:
        raise UsageError("--shadow-out keeps what --shadow disagrees on: give an engine with --shadow Y.lad")
    return None


def open_trial(args: argparse.Namespace, engine: Bundle, *, live: bool, before: Trial | None = None) -> Trial:
    """What --shadow and --shadow-out name, beside this engine of the line; `before` itself where nothing has changed.

    An engine is not put on trial against itself under the same threshold. Raises UsageError, SinkError, and what opening the engine raises.
    """
    from lad_edge.inspector import Inspector, Options
    from lad_edge.stream.shadow import Shadow
    from lad_edge.stream.trial_record import start_of

    other = shadow_engine(args)
    if other is None:
        return Trial()
    start = start_of(engine, other)
    known = None if before is None else before.record
    if before is not None and before.compares(start) and args.shadow_out == (known.folder if known else None):
        return before
    with ExitStack() as if_it_fails:
        record = _record(args.shadow_out, known, if_it_fails)
        shadow = None
        if other.sha256 != engine.sha256 or args.threshold is not None:
            options = Options(threads=1, live=live and not args.allow_repeats, maps_for=frozenset())
            shadow = Shadow(Inspector(other, options), args.shadow_out)
        if_it_fails.pop_all()
    trial = Trial(shadow, start, record)
    if shadow is not None and record is not None:
        shadow.after_each = lambda: record.tell(trial.standing())
    return trial


def _record(folder: Path | None, known: TrialRecord | None, if_it_fails: ExitStack) -> TrialRecord | None:
    from lad_edge.stream.trial_record import TrialRecord

    if folder is None or (known is not None and known.folder == folder):
        return None if folder is None else known
    record = TrialRecord(folder)
    if_it_fails.callback(record.close)
    return record
