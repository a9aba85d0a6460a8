"""MVTec AD (Bergmann et al., IJCV 2021) and data sets laid out like it: MPDD, BTAD, the converted VisA.

`train/good`, `test/{good,<type>}/NNN.*`, `ground_truth/<type>/NNN_mask.png` or `NNN.*`. BTAD calls the folders `ok`
and `ko`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lad_edge.datasets.records import DEFECT, Dataset, Record, dataset, good_records, image_files, subfolders
from lad_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

GOOD_NAMES = ("good", "ok")


def open_mvtec_ad(root: Path) -> Dataset:
    """Raises DataError when train/good is empty, or when masks are there but not for each bad image."""
    records: list[Record] = []
    for split in ("train", "validation", "test"):
        for name in GOOD_NAMES:
            records += good_records(root / split / name, split, root.name)
    for folder in subfolders(root / "test"):
        if folder.name not in GOOD_NAMES:
            records += _defect_records(root, folder)
    return dataset(root, "mvtec_ad", records)


def is_mvtec_ad(root: Path) -> bool:
    """True for a folder with train/good or train/ok."""
    return any((root / "train" / name).is_dir() for name in GOOD_NAMES)


def _defect_records(root: Path, folder: Path) -> list[Record]:
    truth = root / "ground_truth" / folder.name
    masks = {path.stem.removesuffix("_mask"): path for path in image_files(truth)}
    records = []
    for path in image_files(folder):
        if masks and path.stem not in masks:
            raise DataError(
                f"{path}: expected its mask {truth / path.stem}_mask.png, found none; "
                f"restore it, or remove {truth} to go without pixel truth"
            )
        found = (masks[path.stem],) if masks else ()
        records.append(Record(path, "test", DEFECT, folder.name, found, root.name))
    return records
