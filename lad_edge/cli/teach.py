"""lad-edge teach: good parts go in, shown to a camera or lying in a folder; an engine comes out after seconds, without torch."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.cli.arguments import add_engine_options, add_json, positive_duration_ms, positive_int, print_json, roi_px
from lad_edge.errors import SinkError, UsageError
from lad_edge.thresholds import POLICY_HELP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lad_edge.cli.showing import Showing
    from lad_edge.sources.source import Source

_EPILOG = """\
examples:
  lad-edge teach --camera 0 -o part.lad                            hold up 25 good parts, one after the other
  lad-edge teach --camera 0 --good 60 --every enter -o part.lad    each picture at the Enter key
  lad-edge teach --source good/ -o part.lad                        pictures of good parts that lie in a folder
  lad-edge teach --source good/ --leave-out 007.png -o part.lad    without the one that was found to be bad
  lad-edge teach --source good/ --bad scratched/ dented/ -o part.lad    and measure what it finds
  lad-edge teach --add part.lad --source falsely-rejected/ -o part.lad  go on with more parts

Show what the line will bring: different parts, in every place, turn and light that is good. 5 parts are the least, 25 serve
well, 100 carry a promise of 1 % false rejects. A part that is still there from the last picture is not taken twice. Pictures
from a camera are kept (--keep), so that nothing is lost if it fails. Then: lad-edge run --engine part.lad --camera 0
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "teach",
        help="make an engine on this machine from a few good parts, in seconds",
        description="Learns what good parts look like from a few pictures, without training and without torch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="X.lad", help="the engine to write")
    _add_sources(parser)
    _add_lesson(parser)
    add_engine_options(parser)
    add_json(parser, "print one JSON document")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.set_defaults(func=run)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("good parts")
    group.add_argument(
        "--source",
        nargs="+",
        action="extend",
        default=[],
        metavar="FOLDER|VIDEO|URL",
        help="as for run; several are taken in turn",
    )
    group.add_argument(
        "--camera", metavar="N|URI", help="0, /dev/video0, rtsp://…, genicam://SERIAL, as for run; comes after --source"
    )
    group.add_argument(
        "--good", type=positive_int, metavar="N", help="pictures to take from a camera or stream (default: 25)"
    )
    group.add_argument(
        "--every",
        type=_every,
        default="1s",
        metavar="TIME|enter",
        help="time between two of them; Enter takes one at once, 'enter': nothing else does (default: %(default)s)",
    )
    group.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="where they are kept (default: X.parts, or X.parts-2 … if there is one)",
    )
    group.add_argument(
        "--leave-out",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="pictures of --source not to be taught",
    )
    group.add_argument("--skip-unreadable", action="store_true", help="teach the others if pictures cannot be read")
    group.add_argument("--pixel-format", choices=("mono8", "bgr8"), help="convert the pictures to this first")


def _add_lesson(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("lesson")
    group.add_argument(
        "--add", type=Path, metavar="Y.lad", help="go on with a taught engine; -o may name the same file"
    )
    group.add_argument(
        "--bad", nargs="+", default=[], metavar="FOLDER", help="known bad parts: measure what would be found"
    )
    group.add_argument(
        "--policy",
        metavar="POLICY",
        help=POLICY_HELP.replace("%", "%%") + " (default: conformal:5%%, or the nearest that so few parts carry)",
    )
    group.add_argument("--roi", type=roi_px, metavar="X,Y,W,H", help="judge only this region of the picture, in px")
    group.add_argument(
        "--mask",
        type=Path,
        metavar="MASK.png",
        help="a picture as large as those of the parts: white is looked at, black is painted over before anything is measured. With "
        "--register it moves with the region, whose place is looked for in the whole picture",
    )
    group.add_argument(
        "--register",
        nargs="?",
        type=_share,
        const=0.05,
        metavar="SHARE",
        help="parts shift: the region follows each of them by up to this share of the picture's sides (5%% if none is given); without "
        "--roi it is the picture without a border as wide. The first part marks the place",
    )
    group.add_argument(
        "--no-gates",
        action="store_true",
        help="judge pictures whatever their light, focus and place (default: those unlike the good parts' are UNKNOWN)",
    )
    group.add_argument("--name", help="of the engine (default: that of the file)")
    group.add_argument(
        "--no-thumbnails",
        action="store_true",
        help="keep no small pictures of good parts in the engine, which are shown beside what it finds; one picture for the "
        "self-test stays",
    )
    group.add_argument(
        "--side",
        type=positive_int,
        metavar="PX",
        help="of the network's picture, in steps of 32: 320 sees smaller defects from some 200 parts on, for twice the time and "
        "half as large a file again (default: 256)",
    )
    group.add_argument(
        "--backbone", metavar="X.onnx", help="another network to describe the pictures (default: efficientnet-lite0)"
    )


def run(args: argparse.Namespace) -> int:
    """Teaches, and writes the engine."""
    import cv2

    from lad_edge import bundle
    from lad_edge.cli.showing import Showing
    from lad_edge.cli.teach_live import take
    from lad_edge.cli.teach_options import lesson_options
    from lad_edge.cli.teach_report import document, finish, open_bad, text
    from lad_edge.teaching import Lesson

    cv2.setNumThreads(1)  # the engine's pool is the only one
    _check_words(args)
    _check_writable(args.out)
    taught = None if args.add is None else bundle.read(args.add)
    bad = open_bad(args)
    recorded, live = _open_sources(args)
    with Lesson(lesson_options(args, taught), taught) as lesson:
        showing = Showing(lesson, args.leave_out, args.roi)
        _show_recorded(args, recorded, showing)
        kept = None if live is None else take(args, live, showing)
        _say_to_terminal(args, f"fitting the engine to {len(lesson)} parts\n")
        finished = finish(args, lesson, bad)
    sha256 = finished.taught.write(args.out)
    report = document(args.out, sha256, finished, showing)
    if kept is not None:
        report["kept"] = str(kept)
    if args.json:
        print_json(report)
    elif not args.quiet:
        print("\n".join(text(report, args)))
    return 0


def _every(text: str) -> float | None:
    """`1s` → 1.0; `enter` → None."""
    return None if text == "enter" else positive_duration_ms(text) / 1e3


def _share(text: str) -> float:
    """`5%` → 0.05, up to the quarter of the picture within which a part can be found."""
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 0.2:
        raise argparse.ArgumentTypeError(
            f"expected a share of the picture's sides of at most 20 %, such as 5%, came '{text}'"
        )
    return share


def _check_words(args: argparse.Namespace) -> None:
    if not args.source and args.camera is None:
        raise UsageError("good parts are needed: --camera 0 to hold them up, or --source FOLDER with their pictures")
    if args.add is not None and (args.roi, args.mask, args.name, args.register) != (None,) * 4:
        raise UsageError(
            "--add goes on with the name and the region of its engine; leave --name, --roi, --mask and --register out, or teach anew"
        )
    if args.every is None and not sys.stdin.isatty():
        raise UsageError("--every enter needs a terminal as standard input; give a time, such as --every 1s")


def _check_writable(out: Path) -> None:
    """Nobody shall hold up 25 parts for a file that cannot be written. Raises SinkError, UsageError."""
    if out.is_dir():
        raise SinkError(f"{out}: cannot be written (it is a folder); name a file in it, such as {out / 'part.lad'}")
    if out.suffix != ".lad":
        raise UsageError(f"-o takes the name of an engine, which ends in .lad; came {out}")
    if not out.parent.is_dir():
        raise SinkError(f"{out}: cannot be written (there is no folder {out.parent}); make the folder first")
    if not os.access(out.parent, os.W_OK):
        raise SinkError(f"{out}: cannot be written (no permission); choose a folder that this user may write to")


def _open_sources(args: argparse.Namespace) -> tuple[list[Source], Source | None]:
    """The recorded sources, and the live one if there is one; nothing is read yet. Raises SourceError, UsageError."""
    from lad_edge.sources.converted import Converted
    from lad_edge.sources.opening import open_source

    sources = [open_source(text) for text in args.source]
    if args.camera is not None:
        sources.append(open_source(args.camera))
    if args.pixel_format:
        sources = [Converted(source, args.pixel_format) for source in sources]
    live = [source for source in sources if source.live]
    if len(live) > 1:
        raise UsageError(f"a lesson has one camera or stream; came {', '.join(source.name for source in live)}")
    if args.good is not None and not live:
        raise UsageError("--good counts the pictures of a camera or stream, and there is none; leave it out")
    return [source for source in sources if not source.live], live[0] if live else None


def _show_recorded(args: argparse.Namespace, sources: Sequence[Source], showing: Showing) -> None:
    for source in sources:
        showing.show_all(source, lambda shown: _say_to_terminal(args, f"\r{shown} parts shown"))
    if sources:
        _say_to_terminal(args, "\n")
    showing.check(skip_unreadable=args.skip_unreadable)


def _say_to_terminal(args: argparse.Namespace, words: str) -> None:
    """What a person waits for; a log does not need it."""
    if sys.stderr.isatty() and not args.quiet:
        print(words, end="", file=sys.stderr, flush=True)
