"""Figures of whole processes go in; percentiles, Markdown tables and JSON with the machine's name come out."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.harness import machine

Figures = dict[str, float]
SHARES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
PACKAGES = ("lad-edge", "openvino", "onnxruntime", "numpy", "opencv-python")


def measuring() -> None:
    """Say on stderr that everything is made and checked, and that the clock runs from now on."""
    print("measuring", file=sys.stderr, flush=True)


def percentiles(samples: Iterable[float], *, scale: float = 1.0, digits: int = 3) -> Figures:
    """p50, p95, p99 and max of the samples times `scale`, and how many there are."""
    values = np.fromiter(samples, float)
    found = np.percentile(values, tuple(SHARES.values())) * scale
    named = {name: round(float(value), digits) for name, value in zip(SHARES, found, strict=True)}
    return {**named, "calls": values.size}


def about(**more: object) -> dict[str, object]:
    """What every figure has to be read with: machine, versions, date, command."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m", _module(), *map(_without_folders, sys.argv[1:])]),
        "machine": {**machine(), "architecture": platform.machine()},
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        **more,
    }


def _without_folders(argument: str) -> str:
    """An absolute path says where somebody's files lie, which is nobody's business."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right, with three significant digits or all before the point."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [_line(row, widths) for row in cells]
    rule = "|" + "|".join("-" * (widths[0] + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([f"\n{title}\n", lines[0], rule, *lines[1:]])


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file as well")


def write(path: Path | None, document: Mapping[str, object]) -> None:
    """Write the document if a path was given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        text.ljust(width) if i == 0 else text.rjust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "| " + " | ".join(padded) + " |"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return str(value)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).name
