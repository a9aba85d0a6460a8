"""Words of the command line go in, checked values come out; shared by the verbs."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from typing import TYPE_CHECKING

from lad_edge.errors import UsageError
from lad_edge.stream.secret_file import read_secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>us|µs|ms|s|min)?", re.ASCII)
_UNIT_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4}
_AUTO_KEEP_WARM_S = 0.02
_LEAST_TOKEN = 16
_SIZE = re.compile(r"(\d{1,5})[x×](\d{1,5})", re.ASCII)


def duration_ms(text: str) -> float:
    """`50ms`, `1.5s`, `200us`, `0` → milliseconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or (match["unit"] is None and float(match["number"]) != 0):
        raise argparse.ArgumentTypeError(f"a time is written with its unit, such as 50ms or 1s; came '{text}'")
    return float(match["number"]) * _UNIT_MS[match["unit"] or "ms"]


def positive_duration_ms(text: str) -> float:
    """As `duration_ms`, above zero."""
    value = duration_ms(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a time above 0, such as 50ms; came '{text}'")
    return value


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; came '{text}'")
    return int(text)


def positive_float(text: str) -> float:
    """A finite number above 0."""
    value = finite_float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0; came '{text}'")
    return value


def finite_float(text: str) -> float:
    """Any number but NaN and Inf."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number; came '{text}'")
    return value


def size_px(text: str) -> tuple[int, int]:
    """`1280x1024` → (width, height)."""
    match = _SIZE.fullmatch(text)
    if match is None or "0" in match.groups():
        raise argparse.ArgumentTypeError(f"a size is written WIDTHxHEIGHT, such as 1280x1024; came '{text}'")
    return int(match[1]), int(match[2])


def roi_px(text: str) -> tuple[int, int, int, int]:
    """`120,80,900,700` → (x, y, width, height)."""
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.isdecimal() for number in numbers) or "0" in numbers[2:]:
        raise argparse.ArgumentTypeError(
            f"a region is written X,Y,WIDTH,HEIGHT in pixels, such as 120,80,900,700; came '{text}'"
        )
    x, y, width, height = map(int, numbers)
    return x, y, width, height


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """--runtime, --precision and --threads, alike for every verb that runs an engine."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--runtime",
        choices=("openvino", "onnxruntime", "onnxruntime_cuda", "tensorrt", "tensorrt_rtx"),
        help="default: the best one installed for this CPU; a plan has its own",
    )
    group.add_argument("--precision", help="one that the bundle is calibrated for (see 'lad-edge info'); f32, bf16")
    group.add_argument("--threads", type=positive_int, metavar="N", help="threads of the engine; default: all cores")


def keep_warm(text: str) -> str | float:
    """`auto` and `off` as they are, `20ms` → 20: for `keep_warm_s`."""
    return text if text in ("auto", "off") else positive_duration_ms(text)


def keep_warm_s(wanted: str | float, runtime: str) -> float | None:
    """Seconds without a part after which the engine runs for nobody; None = never. auto: on a GPU, whose clocks fall, not on a CPU."""
    from lad_edge.runtime.gpu import ON_GPU

    if isinstance(wanted, str):
        return _AUTO_KEEP_WARM_S if wanted == "auto" and runtime in ON_GPU else None
    return wanted / 1e3


def add_keep_warm(parser: argparse._ActionsContainer) -> None:
    """--keep-warm, alike for run and bench."""
    parser.add_argument(
        "--keep-warm",
        type=keep_warm,
        default="auto",
        metavar="auto|off|TIME",
        help="let the engine judge a golden frame after each such pause, so that it stays fast; default: auto, 20ms on a GPU",
    )


def read_token(path: Path | None, flag: str) -> str | None:
    """What whoever asks must know; None where no file was named. Raises UsageError."""
    if path is None:
        return None
    token = read_secret(path, flag)
    if len(token) < _LEAST_TOKEN or not token.isascii():
        raise UsageError(
            f"{flag} {path}: a token has {_LEAST_TOKEN} ASCII characters at least; make one: openssl rand -hex 32"
        )
    return token


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """--json, on every verb."""
    parser.add_argument("--json", action="store_true", help=what)


def print_json(document: Mapping[str, object]) -> None:
    """One JSON document on standard output; NaN and Inf are refused."""
    json.dump(document, sys.stdout, indent=2, allow_nan=False, ensure_ascii=False)
    print()
