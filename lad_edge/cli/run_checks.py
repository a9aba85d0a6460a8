"""The words of `lad-edge run` go in; what is wrong with them is raised, as far as it shows without opening a camera, a port or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lad_edge.cli.lines import configured
from lad_edge.cli.outputs import check_out
from lad_edge.cli.run_opening import open_source_of, verdicts
from lad_edge.cli.run_words import run_parser
from lad_edge.cli.shadowing import shadow_engine
from lad_edge.cli.triggering import make_trigger
from lad_edge.cli.watching import check_dashboard

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path


def check_config(path: Path) -> list[argparse.Namespace]:
    """What a configuration says of each camera. Raises what is wrong with it."""
    told = configured(run_parser().parse_args(["-c", str(path)]), run_parser())
    check_lines(told)
    return told


def check_lines(told: Sequence[argparse.Namespace]) -> None:
    """Raises the first thing that is wrong: UsageError, SourceError, BundleError, EngineError, MissingDependencyError."""
    check_dashboard(told)
    for args in told:
        _check_line(args)


def _check_line(args: argparse.Namespace) -> None:
    from lad_edge import bundle, plc
    from lad_edge.inspector import check_options
    from lad_edge.views import Sight

    verdicts(args.save)
    check_out(args)
    engine = bundle.read(args.engine)
    check_options(engine, args.runtime, args.precision)
    Sight.of(engine, args.roi)
    source = open_source_of(args, engine)
    make_trigger(args, live=source.live)
    plc.check(args.plc)
    shadow_engine(args)
