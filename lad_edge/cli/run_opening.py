"""The words of `lad-edge run` go in; source, options of the engine, PLCs and sinks of one line come out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lad_edge.cli.outputs import verdicts_with_maps
from lad_edge.cli.triggering import make_trigger, source_words, unknown_policy
from lad_edge.errors import UsageError
from lad_edge.values import Verdict

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from contextlib import ExitStack

    from lad_edge.bundle import Bundle
    from lad_edge.cli.notices import Notices
    from lad_edge.inspector import Options
    from lad_edge.outputs.opening import Outputs
    from lad_edge.plc.station import Display
    from lad_edge.sources.source import Source
    from lad_edge.stream.health import State
    from lad_edge.stream.sinks import Sink
    from lad_edge.stream.watchdog import Beats

_READ_S = 0.5  # for a reader at the end of a line


def verdicts(text: str) -> frozenset[Verdict]:
    """`ng,unknown` → the verdicts. Raises UsageError."""
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    unknown = [name.lower() for name in names if name not in Verdict.__members__]
    if unknown or not names:
        raise UsageError(f"--save takes a list out of ng,unknown,ok; came '{text}'")
    return frozenset(Verdict[name] for name in names)


def open_source_of(args: argparse.Namespace, engine: Bundle) -> Source:
    """Not yet open. Raises UsageError, SourceError."""
    from lad_edge.sources.converted import Converted
    from lad_edge.sources.opening import open_source

    contract = engine.manifest.contract
    size = (contract.width, contract.height) if contract.width and contract.height and not args.roi else None
    source = open_source(source_words(args), size)
    if args.fps and source.live:
        raise UsageError("--fps plays a file at a rate; a live source has its own: leave --fps away")
    return Converted(source, args.pixel_format) if args.pixel_format else source


def options_of(args: argparse.Namespace, live: bool, wanted: frozenset[Verdict]) -> Options:
    """How the engine inspects. live: of the source; wanted: verdicts whose pictures are saved."""
    from lad_edge.inspector import Options

    return Options(
        runtime=args.runtime,
        precision=args.precision,
        threads=args.threads,
        threshold=args.threshold,
        max_age_ms=args.max_age,
        live=live and not args.allow_repeats,
        maps_for=frozenset(Verdict) if args.dashboard else _with_maps(args, wanted),
        gates=not args.no_gates,
        roi=args.roi,
    )


def _with_maps(args: argparse.Namespace, wanted: frozenset[Verdict]) -> frozenset[Verdict]:
    return (wanted if args.overlays else frozenset()) | verdicts_with_maps(args)


def open_sinks(
    args: argparse.Namespace, engine: Bundle, live: bool, wanted: frozenset[Verdict], stack: ExitStack
) -> list[Sink]:
    """Those that show parts to a person or a program: standard output and overlays."""
    from lad_edge.stream.detached import Detached
    from lad_edge.stream.overlays import OverlaySink, heat_span
    from lad_edge.stream.sinks import ConsoleSink, PipeSink
    from lad_edge.views import Sight

    sinks: list[Sink] = []
    if not args.quiet:
        to_a_person = args.lines or (sys.stdout.isatty() and not args.json)
        shown = ConsoleSink(sys.stdout) if to_a_person else PipeSink(sys.stdout.fileno())
        sinks.append(Detached(shown, "standard output", wait_when_full=not live))
    if args.overlays:
        when_full = "skip" if live else "wait"
        calibration = next(iter(engine.manifest.calibrations.values()))
        limit = calibration.threshold if args.threshold is None else args.threshold
        span = heat_span(engine.tensors[calibration.scores], limit)
        sinks.append(OverlaySink(args.overlays, wanted, Sight.of(engine, args.roi).area, when_full, span))
    for sink in sinks:
        stack.callback(sink.close)
    return sinks


def states_of(outputs: Outputs, shown: Sequence[Sink]) -> list[State]:
    """How everything that takes records is doing."""
    from lad_edge.stream.detached import Detached

    return [*outputs.states(), *(sink.health() for sink in shown if isinstance(sink, Detached))]


def flush(shown: Sequence[Sink]) -> None:
    """Lines of parts stand before those of the summary, where somebody reads them."""
    from lad_edge.stream.sinks import Buffered

    for sink in shown:
        if isinstance(sink, Buffered):
            sink.flush(_READ_S)


def open_plcs(args: argparse.Namespace, live: bool, beats: Beats, say: Notices, stack: ExitStack) -> list[Display]:
    """The servers for the PLCs of this line, the one that triggers it first; their heartbeats follow `beats`."""
    from lad_edge.plc import open_display, open_plc

    make_trigger(args, live=live)  # what is wrong is said before a port is opened
    opened: list[Display] = []
    for uri in args.plc:
        opened.append((open_display if opened else open_plc)(uri, beats, say))
        opened[-1].policy = unknown_policy(args)
        stack.callback(opened[-1].close)
    return opened
