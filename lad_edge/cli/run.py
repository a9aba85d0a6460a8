"""lad-edge run: a source and an engine go in; a verdict for each part comes out, live, as JSON and as pictures."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from lad_edge.cli.arguments import keep_warm_s
from lad_edge.cli.lines import Lines, configured
from lad_edge.cli.notices import Aside, Notices
from lad_edge.cli.outputs import (
    ADDRESSES,
    camera_name,
    check_out,
    open_metrics,
    open_outputs_of,
)
from lad_edge.cli.reloading import reload
from lad_edge.cli.run_checks import check_lines
from lad_edge.cli.run_opening import flush, open_plcs, open_sinks, open_source_of, options_of, states_of, verdicts
from lad_edge.cli.run_words import add_run_options, run_parser
from lad_edge.cli.shadowing import open_trial
from lad_edge.cli.station import Station
from lad_edge.cli.triggering import make_trigger
from lad_edge.cli.watching import open_dashboard, open_feed
from lad_edge.stream.stopping import StopSignal
from lad_edge.stream.watchdog import Beats

if TYPE_CHECKING:  # the rest is imported after the signals are in hand: it takes a while
    from collections.abc import Callable, Sequence

    from lad_edge.dashboard.feed import Dashboard
    from lad_edge.inspector import Inspector
    from lad_edge.sources.source import Source
    from lad_edge.stream.loop import Line
    from lad_edge.stream.sinks import Sink

_EPILOG = """\
examples:
  lad-edge run --engine part.lad --camera 0
  lad-edge run --engine part.lad --source shift1.mp4 --out shift1.jsonl --overlays ng-parts
  lad-edge run --engine part.lad --camera 0 --out sqlite:part.sqlite --out mqtt://10.0.0.7/line3 --out images:ng-parts
  lad-edge run --engine part.lad --source rtsp://user:password@10.0.0.7/stream --deadline 100ms --json | plc-bridge

A terminal gets one line per part, a pipe gets JSON lines. Every captured frame has exactly one record: OK, NG, or
UNKNOWN with its reasons, dropped frames included. OK is earned; treat UNKNOWN like NG. Ctrl-C ends cleanly. Exit code 0
means that the line ran, whatever the verdicts were.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "run",
        help="judge a camera, a video, a folder of images or a stream",
        description="Judges every frame of a source with an engine.",
        epilog=f"{_EPILOG}\n{ADDRESSES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs the lines until the sources or somebody end them."""
    told = configured(args, run_parser())
    if args.check:
        check_lines(told)
        for each in told:
            print(f"{each.name or each.engine}: fine")
        return 0
    with StopSignal() as stop, open_dashboard(told, notice) as dashboard, open_metrics(told, notice) as metrics:

        def run_shown(each: argparse.Namespace, show: Callable[[Station], None]) -> None:
            def show_everywhere(station: Station) -> None:
                if each.metrics is not None:
                    metrics[each.metrics].watch(camera_name(each), station.watched())
                show(station)

            run_line(each, stop, show=show_everywhere, dashboard=dashboard, patient=args.config is not None)

        lines = Lines(told, stop, run_shown)
        lines.run(partial(_reload, args))
        for station in lines.open.values():
            leave_stuck_driver_behind(station.line)
    return 0


def _reload(args: argparse.Namespace, lines: Lines) -> None:
    def open_inspector(each: argparse.Namespace, live: bool) -> Inspector:
        from lad_edge import bundle
        from lad_edge.inspector import Inspector

        return Inspector(bundle.read(each.engine), options_of(each, live, verdicts(each.save)))

    reload(lines, lambda: configured(args, run_parser()), open_inspector, notice)


def run_line(
    args: argparse.Namespace,
    stop: StopSignal,
    extra: Sequence[Sink] = (),
    show: Callable[[Station], None] | None = None,
    dashboard: Dashboard | None = None,
    *,
    patient: bool = False,
) -> Line:
    """Opens everything, runs the line to its end, prints the summary.

    extra: sinks that see every result too. show: is shown it before it runs; None = its last words are those of the process.
    dashboard: the page that shows this line too. patient: a camera that is not there yet is waited for.
    """
    import cv2

    from lad_edge import bundle
    from lad_edge.inspector import Inspector
    from lad_edge.stream.health import Health

    cv2.setNumThreads(1)  # the engine's pool is the only one: a second one costs milliseconds on few cores
    wanted, engine = verdicts(args.save), bundle.read(args.engine)
    check_out(args)
    source = open_source_of(args, engine)
    with Aside(partial(_say, args.name)) as aside, ExitStack() as stack:
        trial = open_trial(args, engine, live=source.live)
        stack.callback(trial.close)
        trial.begin()
        beats = Beats()
        say = Notices(aside)
        plcs = open_plcs(args, source.live, beats, say, stack)
        inspector = stack.enter_context(Inspector(engine, options_of(args, source.live, wanted)))
        outputs = open_outputs_of(args, inspector, source.name, say, stop.requested, stack)
        shown = open_sinks(args, engine, source.live, wanted, stack)
        health = Health(beats, partial(states_of, outputs, shown), say)
        stack.callback(health.close)
        page = open_feed(dashboard, args, inspector, source.name, health, stack)
        say(headline(inspector))
        sinks = [*plcs, *outputs.sinks, *shown, *extra, *page, health, *trial.sinks]  # first who waits for the verdict
        line = _line(args, source, inspector, sinks, stop, say, patient)
        line.beat = partial(beats.beat, "line")
        health.follow(line)
        if show is None:
            stop.last_words = line.abandon
        else:
            show(Station(args, line, outputs, health, trial))
        for feed in page:
            feed.follow(line)
        try:
            line.run()
        finally:
            flush(shown)
            if line.stats.parts:
                say("\n".join(filter(None, [line.stats.table(line.parts.dropped), trial.table()])))
            line.inspector.close()  # it may have been swapped
    return line


def _line(
    args: argparse.Namespace,
    source: Source,
    inspector: Inspector,
    sinks: list[Sink],
    stop: StopSignal,
    say: Notices,
    patient: bool,
) -> Line:
    from lad_edge.plc.station import Plc
    from lad_edge.stream.capture import Pace
    from lad_edge.stream.loop import Line, LineOptions
    from lad_edge.stream.vote import Vote

    first_seq = max((getattr(sink, "next_seq", 1) for sink in sinks), default=1)
    options = LineOptions(
        queue=args.queue,
        pace=Pace(args.fps, args.max_frames),
        first_seq=first_seq,
        trigger=make_trigger(args, live=source.live, plc=next((sink for sink in sinks if isinstance(sink, Plc)), None)),
        vote=Vote(args.vote),
        deadline_ms=args.deadline,
        ok_when=args.ok_when,
        keep_warm_s=keep_warm_s(args.keep_warm, inspector.runtime.name),
        patient=patient,
        stop=stop.requested,
        notice=say,
    )
    return Line(source, inspector, sinks, options)


def headline(inspector: Inspector) -> str:
    """Which engine, which runtime and how frames run on a GPU, which threshold and where it comes from: one line for a person."""
    from lad_edge.runtime.gpu import ON_GPU

    manifest, calibration = inspector.bundle.manifest, inspector.calibration
    origin = calibration.policy.statement if inspector.options.threshold is None else "given by --threshold"
    frames = len(inspector.bundle.golden_frames)
    path = f" ({inspector.frame_path})" if inspector.runtime.name in ON_GPU else ""
    return (
        f"{manifest.name} ({manifest.detector}) on {inspector.engine_name}{path}; "
        f"self-test passed on {frames} golden frames; threshold {inspector.threshold:.4f} ({origin})"
    )


def _say(name: str, text: str) -> None:
    """A notice of one of several cameras."""
    notice(f"{name}: {text}" if name else text)


def notice(text: str) -> None:
    """A line for a person; standard output belongs to the results."""
    print(text, file=sys.stderr, flush=True)


def leave_stuck_driver_behind(line: Line) -> None:
    """A thread that never comes back from its driver would be torn down under the interpreter's feet: leave at once."""
    if line.capture.is_alive():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
