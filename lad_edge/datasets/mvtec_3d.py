"""MVTec 3D-AD (Bergmann et al., VISAPP 2022), colour images only.

`{train,validation}/good/rgb/NNN.*`, `test/<type>/rgb/NNN.*` with `test/<type>/gt/NNN.png` beside it. Point clouds are
not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lad_edge.datasets.records import (
    DEFECT,
    GOOD,
    SPLITS,
    Dataset,
    Record,
    dataset,
    good_records,
    image_files,
    subfolders,
)
from lad_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def open_mvtec_3d(root: Path) -> Dataset:
    """Raises DataError when train/good/rgb is empty, or when masks are there but not for each bad image."""
    records: list[Record] = []
    for split in SPLITS:
        records += good_records(root / split / GOOD / "rgb", split, root.name)
    for folder in subfolders(root / "test"):
        if folder.name != GOOD:
            records += _defect_records(root, folder)
    return dataset(root, "mvtec_3d", records)


def is_mvtec_3d(root: Path) -> bool:
    """True for a folder with train/good/rgb."""
    return (root / "train" / GOOD / "rgb").is_dir()


def _defect_records(root: Path, folder: Path) -> list[Record]:
    masks = {path.stem: path for path in image_files(folder / "gt")}
    records = []
    for path in image_files(folder / "rgb"):
        if masks and path.stem not in masks:
            raise DataError(
                f"{path}: expected its mask in {folder / 'gt'}, found none; restore it, or remove that folder"
            )
        found = (masks[path.stem],) if masks else ()
        records.append(Record(path, "test", DEFECT, folder.name, found, root.name))
    return records
