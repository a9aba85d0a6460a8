"""lad-edge camera: which cameras there are, what one of them sees, and whether this machine is set up for it."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.cli.arguments import add_json, positive_duration_ms, positive_float, positive_int, print_json
from lad_edge.errors import SinkError, SourceError
from lad_edge.sources.uri import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lad_edge.sources.source import Source
    from lad_edge.values import Frame

_EPILOG = """\
examples:
  lad-edge camera list                                       what is connected, and the URI of each
  lad-edge camera grab genicam://23456789 -n 5 --out shots/  five frames as PNG
  lad-edge camera preview 0 --out preview.jpg                one JPEG, written again and again; open it in a browser
  lad-edge camera doctor genicam://23456789 --time 10s       rights, network, buffers, and a loss test

A camera is named as in 'lad-edge run --camera': 0, /dev/video0, rtsp://…, http://…, genicam://SERIAL, gst://PIPELINE,
dir://FOLDER, pattern://1280x1024.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `camera` with its verbs."""
    parser = verbs.add_parser(
        "camera",
        help="list cameras, look through one, check its connection",
        description="Lists cameras, looks through one of them, and checks what it is connected to.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    camera_verbs = parser.add_subparsers(dest="camera_verb", metavar="VERB", required=True)
    found = camera_verbs.add_parser("list", help="cameras that this machine can see")
    add_json(found, "print one JSON document")
    found.set_defaults(func=run_list)
    _add_grab(camera_verbs)
    _add_preview(camera_verbs)
    _add_doctor(camera_verbs)


def run_list(args: argparse.Namespace) -> int:
    """Every camera with its URI; drivers that could not look say why."""
    from lad_edge.sources.survey import survey

    cameras, silent = survey()
    if args.json:
        print_json({"cameras": [asdict(camera) for camera in cameras], "not_searched": silent})
        return 0
    for camera in cameras:
        print(f"{camera.uri:<32} {camera.name:<32} {camera.where}")
    for driver, why in silent.items():
        print(f"{driver} was not searched: {why}")
    if not cameras:
        print("no camera was found; 'lad-edge camera doctor' says what may be in its way")
    return 0


def run_grab(args: argparse.Namespace) -> int:
    """Writes the next N pictures; frames without one are named, and do not count."""
    import cv2

    grabbed, faults = 0, 0
    for frame in _frames(args.camera):
        if frame.image is None:
            faults += 1
            print(f"{frame.frame_id}: {frame.fault.value if frame.fault else ''}: {frame.fault_detail}")
        else:
            grabbed += 1
            path = args.out / f"frame-{grabbed:04}.png"
            _write(path, cv2.imencode(".png", frame.image)[1].tobytes())
            print(f"{path}: {frame.frame_id}, {'x'.join(map(str, frame.image.shape[1::-1]))} {frame.pixel_format}")
        if grabbed == args.frames:
            return 0
        if faults > args.frames + 100:
            break
    raise SourceError(f"{redacted(args.camera)} gave {grabbed} of {args.frames} pictures; see 'lad-edge camera doctor'")


def run_preview(args: argparse.Namespace) -> int:
    """Writes the newest picture into one file until the time is over or somebody presses Ctrl-C."""
    import cv2

    limit_s = time.monotonic() + args.time / 1e3 if args.time else float("inf")
    written, due_s = 0, 0.0
    try:
        for frame in _frames(args.camera):
            now_s = time.monotonic()
            if frame.image is not None and now_s >= due_s:
                _write(args.out, cv2.imencode(".jpg", frame.image)[1].tobytes())
                written, due_s = written + 1, now_s + 1 / args.fps
                if written == 1:
                    print(f"{args.out} shows {frame.source}; Ctrl-C ends", flush=True)
            if now_s >= limit_s:
                break
    except KeyboardInterrupt:
        pass
    print(f"{args.out} was written {written} times")
    return 0


def run_doctor(args: argparse.Namespace) -> int:
    """Prints each finding as soon as it is there; the exit code says whether one of them is a failure."""
    from lad_edge.cli.camera_checks import examine
    from lad_edge.cli.doctor import tell

    return 0 if tell(examine(args.camera, args.time / 1e3), as_json=args.json) else SourceError.exit_code


def _add_grab(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("grab", help="save frames as PNG")
    _add_camera(parser)
    parser.add_argument("-n", "--frames", type=positive_int, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
    parser.set_defaults(func=run_grab)


def _add_preview(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("preview", help="keep one JPEG up to date")
    _add_camera(parser)
    parser.add_argument("--out", type=Path, default=Path("preview.jpg"), metavar="FILE", help="default: preview.jpg")
    parser.add_argument("--fps", type=positive_float, default=5.0, help="how often at most (default: 5)")
    parser.add_argument("--time", type=positive_duration_ms, metavar="TIME", help="end after it (default: Ctrl-C)")
    parser.set_defaults(func=run_preview)


def _add_doctor(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("doctor", help="rights, network, buffers, and a loss test")
    parser.add_argument("camera", nargs="?", metavar="URI", help="is read for a while, and its losses are counted")
    parser.add_argument(
        "--time", type=positive_duration_ms, default="5s", metavar="TIME", help="for the loss test (default: 5s)"
    )
    add_json(parser, "the findings as JSON")
    parser.set_defaults(func=run_doctor)


def _add_camera(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("camera", metavar="URI", help="0, /dev/video0, rtsp://…, genicam://SERIAL, as for run --camera")


def _frames(uri: str) -> Iterator[Frame]:
    """Everything that the source delivers, until it ends. Raises SourceError if it is lost, or silent for long."""
    from lad_edge.sources.opening import open_source
    from lad_edge.values import Reason

    source: Source = open_source(uri)
    try:
        source.open()
        while (frame := source.read()) is not None:
            if frame.fault is Reason.CAMERA_LOST:
                raise SourceError(frame.fault_detail)
            yield frame
    finally:
        source.close()


def _write(path: Path, data: bytes) -> None:
    """The file is whole or as it was. Raises SinkError."""
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as exc:
        raise SinkError(f"{path}: cannot be written ({exc.strerror}); choose another place: --out") from exc
