"""The words of `lad-edge run`: what each means, and the parser that reads them from a command line, a file or another verb."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lad_edge.cli.arguments import (
    add_engine_options,
    add_keep_warm,
    finite_float,
    positive_duration_ms,
    positive_float,
    positive_int,
    roi_px,
)
from lad_edge.cli.outputs import add_out_options
from lad_edge.cli.shadowing import add_shadow_options
from lad_edge.cli.triggering import add_trigger_options
from lad_edge.cli.watching import add_dashboard_options
from lad_edge.errors import UsageError
from lad_edge.stream.sinks import OK_WHEN

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_run(words: Sequence[str]) -> argparse.Namespace:
    """The words after `lad-edge run`, for verbs that are a run with given words. Raises UsageError."""
    return run_parser().parse_args(words)


def run_parser() -> argparse.ArgumentParser:
    """Of all words; what is wrong with them is a UsageError."""
    parser = _Words(prog="lad-edge run")
    add_run_options(parser)
    return parser


class _Words(argparse.ArgumentParser):
    """What is wrong is for the caller to say: a reload that is refused must not end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds all words."""
    parser.add_argument(
        "--engine",
        type=Path,
        metavar="X.lad",
        help="made by 'lad-edge export', or a plan of 'lad-edge build'",
    )
    parser.add_argument(
        "-c", "--config", type=Path, metavar="LINE.toml", help="all of this in a file, for one camera or several"
    )
    parser.add_argument("--check", action="store_true", help="say what is wrong with all of this, and run nothing")
    parser.add_argument("--name", default="", help="of the camera, where there are several")
    _add_source_options(parser)
    add_trigger_options(parser)
    _add_output_options(parser)
    add_dashboard_options(parser)
    add_shadow_options(parser)
    parser.add_argument("--threshold", type=finite_float, help="replaces the one in the bundle")
    parser.add_argument(
        "--deadline", type=positive_duration_ms, metavar="TIME", help="later than that after the capture: UNKNOWN"
    )
    parser.add_argument(
        "--max-age", type=positive_duration_ms, metavar="TIME", help="frames older than that at the start: UNKNOWN"
    )
    parser.add_argument(
        "--no-gates",
        action="store_true",
        help="judge pictures whatever their light, focus and place: the engine's limits for them are left out",
    )
    add_keep_warm(parser)
    add_engine_options(parser)


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--camera",
        metavar="N|URI",
        help="0, /dev/video0, rtsp://…, http://…, genicam://SERIAL, gst://PIPELINE, dir://FOLDER",
    )
    where.add_argument(
        "--source", metavar="FILE|FOLDER|URI", help="the same words; mostly for a video, an image, a folder of images"
    )
    group = parser.add_argument_group("frames")
    group.add_argument(
        "--queue",
        choices=("latest", "all"),
        help="latest: the newest frame wins (default for live sources); all: every frame in order (default for files)",
    )
    group.add_argument("--fps", type=positive_float, help="play a file at this rate; default: as fast as it goes")
    group.add_argument("--max-frames", type=positive_int, metavar="N", help="stop after N captured frames")
    group.add_argument("--pixel-format", choices=("mono8", "bgr8"), help="convert the source's frames to this first")
    group.add_argument(
        "--roi",
        type=roi_px,
        metavar="X,Y,W,H",
        help="the engine's frame is this region of the camera's, in px, as large as the pictures that the engine was made from; what is "
        "found is told in pixels of the camera's frame",
    )
    group.add_argument(
        "--allow-repeats", action="store_true", help="a live picture without noise may stay the same (rendered streams)"
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    add_out_options(group)
    group.add_argument(
        "--sync",
        choices=("record", "close"),
        default="close",
        help="record: each record is on the disk before the next part; default: close",
    )
    group.add_argument(
        "--ok-when",
        choices=OK_WHEN,
        default=OK_WHEN[0],
        help="durable: an OK is given once its record is on the disk, else the part is UNKNOWN (NOT_DURABLE); default: judged",
    )
    group.add_argument("--overlays", type=Path, metavar="FOLDER", help="save pictures with heat and regions")
    group.add_argument("--save", default="ng", metavar="ng,unknown,ok", help="which of them; default: ng")
    how = group.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="JSON lines on standard output, even on a terminal")
    how.add_argument("--lines", action="store_true", help="lines for a person, even into a pipe")
    how.add_argument("--quiet", action="store_true", help="nothing on standard output")
