"""Detectors × categories × seeds: each cell is trained, exported and measured once, and its figures are kept; then come the tables."""

from __future__ import annotations

import csv
import json
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lad_edge.export.export import ExportOptions, export_run
from lad_edge.export.published import shown

from lad_edge.errors import DataError
from lad_edge.training.fit import FitOptions, fit

CELL = "cell.json"
COLUMNS = {  # of the tables: title → where the figure stands in the metrics
    "image AUROC": ("image_auroc",),
    "logical": ("image_auroc_by_label", "logical_anomalies"),
    "structural": ("image_auroc_by_label", "structural_anomalies"),
    "pixel AUROC": ("pixel_auroc",),
    "AUPRO@0.3": ("aupro_0.3",),
    "AU-sPRO@0.05 logical": ("au_spro_by_label", "logical_anomalies", "0.05"),
    "AU-sPRO@0.05 structural": ("au_spro_by_label", "structural_anomalies", "0.05"),
}


@dataclass(frozen=True)
class Cell:
    """One training. settings: of the detector, its seed among them."""

    detector: str
    category: str
    seed: int
    data: Path
    settings: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Its name below the folder of the grid."""
        return f"{self.detector}-{self.category}-seed{self.seed}"


@dataclass(frozen=True)
class Measured:
    """A cell with its figures, as kept in cell.json."""

    detector: str
    category: str
    seed: int
    settings: Mapping[str, Any]
    train_seconds: int
    metrics: Mapping[str, Any]
    machine: str


def measure(
    cells: Sequence[Cell], out: Path, options: FitOptions, policy: str, report: Callable[[str], None]
) -> list[Measured]:
    """Train and measure what is not measured yet; a killed grid goes on with the cell, and within the training, where it was.

    Raises DataError if a data set has no good and anomalous test images, and what training and export raise.
    """
    found = []
    for index, cell in enumerate(cells, 1):
        folder = out / cell.folder
        known = read_cell(folder, cell)
        report(f"[{index}/{len(cells)}] {cell.folder}: {'known' if known else 'training'}")
        found.append(known or _measure(cell, folder, options, policy))
    return found


def read_cell(folder: Path, cell: Cell) -> Measured | None:
    """The figures of a cell that has been measured with these settings. Raises DataError if it was another training."""
    path = folder / CELL
    if not path.is_file():
        return None
    known = Measured(**json.loads(path.read_text()))
    if dict(known.settings) != dict(cell.settings):
        raise DataError(
            f"{path} was measured with {known.settings}, asked for are {dict(cell.settings)}; choose another --out"
        )
    return known


def _measure(cell: Cell, folder: Path, options: FitOptions, policy: str) -> Measured:
    description = fit(cell.detector, cell.data, folder, cell.settings, options)
    metrics = export_run(folder, folder / "engine.lad", ExportOptions(policy=policy))["metrics"]
    if not metrics:
        raise DataError(f"{cell.data}: expected good and anomalous test images, found one kind; nothing to measure")
    measured = Measured(
        detector=cell.detector,
        category=cell.category,
        seed=cell.seed,
        settings=dict(cell.settings),
        train_seconds=int(description.provenance["train_seconds"]),
        metrics=metrics,
        machine=f"{platform.processor() or platform.machine()}, torch {description.provenance['torch']}",
    )
    (folder / CELL).write_text(json.dumps(asdict(measured), indent=1, sort_keys=True) + "\n")
    return measured


def write_tables(cells: Sequence[Measured], out: Path) -> None:
    """results.json and results.csv with every cell, results.md with mean ± standard deviation over the seeds."""
    (out / "results.json").write_text(json.dumps([asdict(cell) for cell in cells], indent=1, sort_keys=True) + "\n")
    with (out / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["detector", "category", "seed", "train_seconds", *COLUMNS])
        for cell in cells:
            figures = (_figure(cell.metrics, path) for path in COLUMNS.values())
            row = [cell.detector, cell.category, cell.seed, cell.train_seconds]
            writer.writerow([*row, *("" if value is None else value for value in figures)])
    (out / "results.md").write_text(markdown(cells))


def markdown(cells: Sequence[Measured]) -> str:
    """One row for each detector and category; columns that no cell has are left out."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for cell in cells:
        groups.setdefault((cell.category, cell.detector), []).append(cell)
    used = {title: path for title, path in COLUMNS.items() if any(_figure(c.metrics, path) is not None for c in cells)}
    lines = [_row(["data", "detector", "seeds", *used, "minutes", "published"]), _row(["---"] * (len(used) + 5))]
    for (category, detector), group in sorted(groups.items()):
        figures = [_spread(_figure(cell.metrics, path) for cell in group) for path in used.values()]
        minutes = statistics.mean(cell.train_seconds for cell in group) / 60
        lines.append(_row([category, detector, str(len(group)), *figures, f"{minutes:.0f}", shown(detector, category)]))
    return "\n".join(lines) + "\n"


def _row(words: Sequence[str]) -> str:
    return "| " + " | ".join(words) + " |"


def _figure(metrics: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = metrics
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _spread(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = statistics.mean(known)
    return f"{mean:.3f} ± {statistics.stdev(known):.3f}" if len(known) > 1 else f"{mean:.3f}"
