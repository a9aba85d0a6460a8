"""The nouns of a data set: one record for each image, and the data set that holds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.errors import DataError, UsageError
from lad_edge.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SPLITS = ("train", "validation", "test")
GOOD, DEFECT = "good", "defect"
LOGICAL, STRUCTURAL = "logical_anomalies", "structural_anomalies"


@dataclass(frozen=True)
class Record:
    """One image. label: good, logical_anomalies, structural_anomalies or defect; defect_type: "" for good ones.

    masks: one file for each defect channel (MVTec LOCO), or one for the image; empty for good images and where there
    is no pixel truth.
    """

    path: Path
    split: str
    label: str
    defect_type: str = ""
    masks: tuple[Path, ...] = ()
    category: str = ""


@dataclass(frozen=True)
class DefectSpec:
    """One entry of LOCO's defects_config.json.

    saturation_threshold: pixels; a share of the channel's area if relative_saturation.
    """

    name: str
    pixel_value: int
    saturation_threshold: float
    relative_saturation: bool

    def saturation_px(self, area_px: int) -> int:
        """How many pixels of a channel of `area_px` have to be found (LOCO paper, §4; methods card §12.4); at least one."""
        share = self.saturation_threshold * area_px if self.relative_saturation else self.saturation_threshold
        return max(1, min(int(share), area_px))


@dataclass(frozen=True)
class Dataset:
    """All records of one category, in the order of their paths within each split.

    defects: empty unless the layout is mvtec_loco.
    """

    root: Path
    layout: str
    category: str
    records: tuple[Record, ...]
    defects: tuple[DefectSpec, ...] = ()

    def select(self, *, split: str | None = None, label: str | None = None) -> tuple[Record, ...]:
        """The records of a split, of a label, or of both. Raises UsageError for a split that does not exist."""
        if split is not None and split not in SPLITS:
            raise UsageError(f"expected a split of {', '.join(SPLITS)}, got '{split}'")
        return tuple(r for r in self.records if split in (None, r.split) and label in (None, r.label))

    def with_validation(self, seed: int, fraction: float = 0.1) -> Dataset:
        """Itself if it has validation images; else a seeded share of train/good becomes validation, never a test image.

        Raises DataError if fewer than two training images are there, UsageError for a fraction outside 0..1.
        """
        if self.select(split="validation"):
            return self
        return self._move("validation", seed, fraction)

    def with_test_good(self, seed: int, fraction: float = 0.1) -> Dataset:
        """Itself if it has good test images; else a seeded share of train/good becomes test, for plain folders."""
        if self.select(split="test", label=GOOD):
            return self
        return self._move("test", seed, fraction)

    def _move(self, split: str, seed: int, fraction: float) -> Dataset:
        train = self.select(split="train")
        if not 0 < fraction < 1:
            raise UsageError(f"expected a fraction between 0 and 1, got {fraction}")
        if len(train) < 2:
            raise DataError(
                f"{self.root}: expected at least 2 good training images to set some aside for {split}, "
                f"found {len(train)}; add good images (50 or more serve well)"
            )
        count = min(max(1, round(fraction * len(train))), len(train) - 1)
        chosen = np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(train))[:count]
        moved = {train[i].path for i in chosen}
        return replace(self, records=tuple(replace(r, split=split) if r.path in moved else r for r in self.records))


def image_files(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name, hidden ones left out; empty if there is no such folder."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise DataError(f"cannot list {folder}: {exc.strerror}; check its permissions") from exc


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted by name, hidden ones left out; empty if there is no such folder."""
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as exc:
        raise DataError(f"cannot list {folder}: {exc.strerror}; check its permissions") from exc


def good_records(folder: Path, split: str, category: str) -> list[Record]:
    """The images of a folder as good records."""
    return [Record(path, split, GOOD, category=category) for path in image_files(folder)]


def dataset(root: Path, layout: str, records: Sequence[Record], defects: tuple[DefectSpec, ...] = ()) -> Dataset:
    """Puts the records together. Raises DataError when there are no good images to train on."""
    if not any(r.split == "train" for r in records):
        raise DataError(f"{root}: expected good training images in layout {layout}, found none; check the path")
    return Dataset(root, layout, root.name, tuple(records), defects)
