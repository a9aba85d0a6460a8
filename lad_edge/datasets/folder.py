"""A plain folder of good images, with or without one of bad images."""

from __future__ import annotations

from pathlib import Path

from lad_edge.datasets.records import DEFECT, Dataset, Record, dataset, good_records, image_files, subfolders
from lad_edge.errors import DataError


def open_folder(good: str | Path, bad: str | Path | None = None) -> Dataset:
    """Good images are `train`; bad ones, directly in `bad` or in one subfolder for each defect type, are `test`.

    Raises DataError when a folder is missing or holds no images.
    """
    good, bad = Path(good), None if bad is None else Path(bad)
    for folder in (good, bad):
        if folder is not None and not folder.is_dir():
            raise DataError(f"expected a folder of images, {folder} does not exist; check the path")
    root = good.parent if good.name == "good" else good
    records = good_records(good, "train", root.name)
    if not records:
        raise DataError(f"expected images in {good}, found none; PNG, JPEG, BMP and TIFF are read")
    if bad is not None:
        records += _bad_records(bad, root.name)
    return dataset(root, "folder", records)


def open_folder_root(root: Path) -> Dataset:
    """A folder of images, or one with the subfolders `good/` and, if wanted, `bad/`."""
    if not (root / "good").is_dir():
        return open_folder(root)
    return open_folder(root / "good", root / "bad" if (root / "bad").is_dir() else None)


def is_folder(root: Path) -> bool:
    """True for a folder that holds images or a subfolder `good/`."""
    return (root / "good").is_dir() or bool(image_files(root))


def _bad_records(bad: Path, category: str) -> list[Record]:
    records = [Record(path, "test", DEFECT, DEFECT, category=category) for path in image_files(bad)]
    for folder in subfolders(bad):
        records += [Record(path, "test", DEFECT, folder.name, category=category) for path in image_files(folder)]
    if not records:
        raise DataError(f"expected images in {bad}, found none; remove the folder or add bad images")
    return records
