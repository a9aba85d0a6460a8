"""VisA (Zou et al., ECCV 2022) as it is distributed; its converted form is laid out like MVTec AD.

`<category>/Data/Images/{Normal,Anomaly}/NNN.JPG`, `<category>/Data/Masks/Anomaly/NNN.png` with the number of a kind of
defect in each marked pixel. Which image belongs where stands beside the categories in `split_csv/1cls.csv`: object,
split, label, image, mask.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.datasets.records import DEFECT, GOOD, Dataset, Record, dataset
from lad_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE = Path("split_csv", "1cls.csv")
COLUMNS = ("object", "split", "label", "image", "mask")
LABELS = {("train", "normal"): GOOD, ("test", "normal"): GOOD, ("test", "anomaly"): DEFECT}


def open_visa(root: Path) -> Dataset:
    """The one-class split of a category. Raises DataError when its table is missing, wrong, or names files that are not there."""
    root = root.absolute()
    table = root.parent / TABLE
    rows = _read_rows(table)
    own = [row for row in rows if row["object"] == root.name]
    if not own:
        raise DataError(
            f"{table}: expected images of {root.name}, found those of {sorted({row['object'] for row in rows})}; "
            "leave the folders of the data set as they are"
        )
    records = sorted((_record(row, root, table) for row in own), key=lambda record: record.path)
    return dataset(root, "visa", records)


def is_visa(root: Path) -> bool:
    """True for a folder with Data/Images/Normal."""
    return (root / "Data" / "Images" / "Normal").is_dir()


def _read_rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, restval=""))
    except OSError as exc:
        raise DataError(f"cannot read {table}: {exc.strerror}; it comes with VisA and names the test images") from exc
    except (ValueError, csv.Error) as exc:
        raise DataError(f"{table}: expected a table of text, {exc}; take the file of the data set") from exc
    if not rows or set(COLUMNS) - set(rows[0]):
        found = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise DataError(f"{table}: expected columns {', '.join(COLUMNS)}, found {found}; take the file of the data set")
    return rows


def _record(row: Mapping[str, str], root: Path, table: Path) -> Record:
    label = LABELS.get((row["split"], row["label"]))
    if label is None:
        kinds = ", ".join(" ".join(kind) for kind in LABELS)
        raise DataError(f"{table}: {row['image']}: expected one of {kinds}, found {row['split']} {row['label']}")
    masks = (_file(row["mask"], root, table),) if label == DEFECT and row["mask"] else ()
    defect_type = row["label"] if label == DEFECT else ""
    return Record(_file(row["image"], root, table), row["split"], label, defect_type, masks, root.name)


def _file(name: str, root: Path, table: Path) -> Path:
    path = root.parent / name
    if ".." in path.parts or not path.is_relative_to(root) or not path.is_file():
        raise DataError(f"{table}: expected {name} in {root}, found none; restore the data set")
    return path
