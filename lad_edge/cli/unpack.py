"""lad-edge unpack: an engine file goes in; its networks come out as plain .onnx and .plan files for other tools."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lad_edge.bundle import Bundle, read
from lad_edge.cli.arguments import add_json, print_json
from lad_edge.errors import SinkError
from lad_edge.stream.writing import write_all

_EPILOG = """\
examples:
  lad-edge unpack part.lad part-networks && netron part-networks/detector.onnx
  lad-edge unpack part.plan part-engines && trtexec --loadEngine=part-engines/detector.plan

A plan gives its engines and the networks that they were built from.

The whole file is verified first. Nothing that is there already is overwritten.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "unpack",
        help="write the networks of an engine file as .onnx and .plan",
        description="Writes each network of an engine file as ROLE.onnx into a folder; of a plan the engines too, as ROLE.plan.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="X.lad", help="or a plan")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is missing")
    add_json(parser, "the written files as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Writes the files and lists them."""
    written = unpack(read(args.file), args.folder)
    if args.json:
        print_json({"files": [{"path": str(path), "size_bytes": path.stat().st_size} for path in written]})
    else:
        print("\n".join(str(path) for path in written))
    return 0


def unpack(bundle: Bundle, folder: Path) -> list[Path]:
    """Writes ROLE.onnx for each graph, and for each engine ROLE.plan, or ROLE.f16.onnx where ONNX Runtime runs it.

    Raises SinkError when one exists or cannot be written.
    """
    contents = {folder / f"{role}.onnx": onnx for role, (_, onnx) in bundle.sources().items()}
    device = bundle.manifest.device
    if device is not None:
        suffix = f"{device.precision}.onnx" if device.runtime == "onnxruntime_cuda" else "plan"
        contents |= {folder / f"{role}.{suffix}": engine for role, (_, engine) in bundle.graphs().items()}
    _check_free(folder, list(contents))
    for path, content in contents.items():
        _write_new(path, content)
    return list(contents)


def _check_free(folder: Path, targets: list[Path]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SinkError(f"cannot make the folder {folder}: {exc.strerror}; choose another one") from exc
    taken = [str(path) for path in targets if os.path.lexists(path)]
    if taken:
        raise SinkError(f"{', '.join(taken)} exists and is not overwritten; choose an empty folder")


def _write_new(path: Path, content: bytes | memoryview) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise SinkError(f"cannot write {path}: {exc.strerror}; choose an empty folder that you may write to") from exc
    try:
        write_all(fd, content)
        os.fsync(fd)
    except OSError as exc:
        path.unlink(missing_ok=True)  # half a network is worse than none
        raise SinkError(f"cannot write {path}: {exc.strerror}; free space or choose another disk") from exc
    finally:
        os.close(fd)
