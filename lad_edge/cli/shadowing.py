"""--shadow of `lad-edge run`: words go in, a second engine on the same parts comes out, which a reload exchanges."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.errors import UsageError

if TYPE_CHECKING:
    from lad_edge.stream.shadow import Shadow


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
    """The shadow of a line, if it has one."""

    def __init__(self, shadow: Shadow | None) -> None:
        self.shadow = shadow

    @property
    def sinks(self) -> list[Shadow]:
        """What the line writes to."""
        return [] if self.shadow is None else [self.shadow]

    def table(self) -> str:
        """How both engines compare, for a person; "" without a shadow."""
        return "" if self.shadow is None else self.shadow.table()

    def close(self) -> None:
        """Ends it."""
        if self.shadow is not None:
            self.shadow.close()


def open_trial(args: argparse.Namespace, *, live: bool) -> Trial:
    """What --shadow and --shadow-out name. Raises UsageError, SinkError, and what opening the engine raises."""
    from lad_edge import bundle
    from lad_edge.inspector import Inspector, Options
    from lad_edge.stream.shadow import Shadow

    if args.shadow is None:
        if args.shadow_out:
            raise UsageError("--shadow-out keeps what --shadow disagrees on: give an engine with --shadow Y.lad")
        return Trial(None)
    options = Options(threads=1, live=live and not args.allow_repeats, maps_for=frozenset(), roi=args.roi)
    return Trial(Shadow(Inspector(bundle.read(args.shadow), options), args.shadow_out))
