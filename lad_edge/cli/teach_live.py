"""Parts before a camera or in a stream go in, one picture after the other; they are shown to the lesson and kept in a folder."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from lad_edge.cli.run import notice
from lad_edge.errors import DataError, LadEdgeError, UsageError
from lad_edge.sources.converted import Converted
from lad_edge.sources.opening import open_source
from lad_edge.sources.uri import redacted
from lad_edge.stream.stopping import StopSignal
from lad_edge.stream.taking import KeptPictures, Shutter
from lad_edge.teaching import FEWEST_PARTS, Options, default_policy
from lad_edge.thresholds import choose

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from lad_edge.cli.showing import Showing
    from lad_edge.sources.source import Source
    from lad_edge.values import Frame

_INTERRUPTED = 130  # exit code, as of lad_edge.cli.main
GOOD = 25  # pictures, where --good is not given
_SAME_AGAIN = (
    *("camera", "keep", "leave_out", "pixel_format", "add", "bad", "policy", "mask", "name", "side", "backbone"),
    *("runtime", "precision", "threads"),
)


def take(args: argparse.Namespace, live: Source, showing: Showing) -> Path:
    """Returns the folder with the pictures. Raises DataError if too few were asked for, SourceError, SinkError.

    An error after the first picture, and a signal (KeyboardInterrupt), say where the pictures lie and how to go on from them.
    """
    _check_enough(len(showing.lesson) + (args.good or GOOD), showing.lesson.options)
    kept = KeptPictures(_folder(args))
    try:
        complete = _take_all(args, _of_size(args, live, showing.size), showing, kept)
    except LadEdgeError as exc:
        raise (type(exc)(f"{exc}; {_what_is_left(args, kept)}") if kept.saved else exc) from exc
    if not complete:
        notice(_what_is_left(args, kept))
        raise KeyboardInterrupt
    return kept.folder


def _check_enough(parts: int, options: Options) -> None:
    """Before anybody holds up a part. Raises DataError."""
    if parts < FEWEST_PARTS:
        raise DataError(
            f"teaching needs at least {FEWEST_PARTS} good parts, these would be {parts}; ask for more: --good"
        )
    choose(np.zeros(parts), *(options.policy or default_policy(parts)))


def _folder(args: argparse.Namespace) -> Path:
    """--keep, or one beside the engine: without pictures of another lesson, unless these are a source of this one."""
    sources = _resolved(args.source)

    def fits(folder: Path) -> bool:
        return folder.resolve() in sources or not any(folder.glob("part-*.png"))

    if args.keep is None:
        first = Path(args.out).with_suffix(".parts")
        others = (first.with_name(f"{first.name}-{number}") for number in count(2))
        return next(folder for folder in chain([first], others) if fits(folder))
    if not fits(args.keep):
        raise UsageError(
            f"--keep {args.keep} holds pictures of another lesson; name another folder, or go on from them with --source {args.keep}"
        )
    return Path(args.keep)


def _of_size(args: argparse.Namespace, live: Source, size: tuple[int, int] | None) -> Source:
    """A camera is asked for pictures of the size of the parts before."""
    if args.camera is None or size is None:
        return live
    camera = open_source(args.camera, size)
    if not camera.live:
        return live
    return Converted(camera, args.pixel_format) if args.pixel_format else camera


def _take_all(args: argparse.Namespace, live: Source, showing: Showing, kept: KeptPictures) -> bool:
    """False if a signal came before the last picture."""
    showing.begin(live)
    told = False
    with StopSignal() as stop, Shutter(live, args.every, stopped=stop.requested) as shutter:
        stop.last_words = partial(_leave, args, kept)
        _say(args, _what_will_be(args, live, kept))
        while kept.saved < (args.good or GOOD):
            frame = shutter.take()
            if frame is None:
                break
            still_there = showing.seen(frame)
            if not still_there:
                _take_one(args, replace(frame, frame_id=kept.next_name), showing, kept)
            elif not told:
                _say(args, "the part of the last picture is still there: show another one")
            told = still_there
    complete = kept.saved == (args.good or GOOD)
    if shutter.stuck and not complete:  # a thread in a driver would be torn down under the interpreter's feet
        _leave(args, kept)
    return complete


def _leave(args: argparse.Namespace, kept: KeptPictures) -> NoReturn:
    """Where a driver hangs and somebody has asked for the end."""
    notice(_what_is_left(args, kept))
    notice("lad-edge: error: interrupted")
    os._exit(_INTERRUPTED)


def _take_one(args: argparse.Namespace, frame: Frame, showing: Showing, kept: KeptPictures) -> None:
    """A picture that does not fit the lesson is not kept."""
    found = showing.show(frame)
    kept.save(np.asarray(frame.image))
    _say(args, f"{kept.saved} of {args.good or GOOD}: {'; '.join([frame.frame_id, *found])}")


def _what_will_be(args: argparse.Namespace, live: Source, kept: KeptPictures) -> str:
    pace = "one at each Enter" if args.every is None else f"one each {args.every:g} s"
    return f"taking {args.good or GOOD} pictures from {live.name}, {pace}, into {kept.folder}; Ctrl-C stops"


def _say(args: argparse.Namespace, words: str) -> None:
    if not args.quiet:
        notice(words)


def _what_is_left(args: argparse.Namespace, kept: KeptPictures) -> str:
    if not kept.saved:
        return "no picture was taken yet"
    wanted = args.good or GOOD
    command = shlex.join(["lad-edge", "teach", *_words_to_go_on(args, kept)])
    return f"{kept.saved} of {wanted} pictures were taken and lie in {kept.folder}; go on with: {command}"


def _words_to_go_on(args: argparse.Namespace, kept: KeptPictures) -> Iterator[str]:
    """The same lesson with the folder as a source and the missing pictures to take; passwords are left out."""
    folder = [] if kept.folder.resolve() in _resolved(args.source) else [str(kept.folder)]
    yield from ("--source", *folder, *map(redacted, args.source))
    yield from ("--good", str((args.good or GOOD) - kept.saved))
    yield from ("--every", "enter" if args.every is None else f"{args.every * 1e3:g}ms")
    for option in _SAME_AGAIN:
        value = getattr(args, option)
        if value:
            yield f"--{option.replace('_', '-')}"
            yield from map(redacted, map(str, value if isinstance(value, list) else [value]))
    if args.roi:
        yield from ("--roi", ",".join(map(str, args.roi)))
    if args.register is not None:
        yield from ("--register", f"{args.register:.6g}")
    for option in ("skip_unreadable", "no_thumbnails", "no_gates"):
        if getattr(args, option):
            yield f"--{option.replace('_', '-')}"
    yield from ("-o", str(args.out))


def _resolved(sources: Iterable[str]) -> set[Path]:
    return {Path(text).resolve() for text in sources}
