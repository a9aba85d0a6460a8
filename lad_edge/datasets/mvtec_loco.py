"""MVTec LOCO AD (Bergmann et al., IJCV 2022): logical and structural anomalies, one mask file for each defect channel.

`{train,validation,test}/good`, `test/{logical_anomalies,structural_anomalies}`, `ground_truth/<label>/NNN/000.png,
001.png, …`; each mask holds 0 and one positive value, which `defects_config.json` explains.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lad_edge.datasets.masks import read_mask
from lad_edge.datasets.records import (
    LOGICAL,
    SPLITS,
    STRUCTURAL,
    Dataset,
    DefectSpec,
    Record,
    dataset,
    good_records,
    image_files,
)
from lad_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG = "defects_config.json"


def open_mvtec_loco(root: Path) -> Dataset:
    """Opens a category. A record's defect type names the values of its masks; without a config it is the label.

    Raises DataError when train/good is empty, an anomalous image has no mask while others have, or the config is not
    one.
    """
    defects = read_defects_config(root / CONFIG) if (root / CONFIG).exists() else ()
    names = {defect.pixel_value: defect.name for defect in defects}
    records: list[Record] = []
    for split in SPLITS:
        records += good_records(root / split / "good", split, root.name)
    for label in (LOGICAL, STRUCTURAL):
        records += _anomalies(root, label, names)
    return dataset(root, "mvtec_loco", records, defects)


def is_mvtec_loco(root: Path) -> bool:
    """True for a folder with train/good and LOCO's test folders or config."""
    marks = (root / CONFIG, root / "test" / LOGICAL, root / "test" / STRUCTURAL)
    return (root / "train" / "good").is_dir() and any(mark.exists() for mark in marks)


def read_defects_config(path: Path) -> tuple[DefectSpec, ...]:
    """The entries of defects_config.json. Raises DataError that names the first thing that is wrong with it."""
    try:
        entries = json.loads(path.read_text())
        return tuple(_defect_spec(entry) for entry in entries)
    except OSError as exc:
        raise DataError(f"cannot read {path}: {exc.strerror}; check its permissions") from exc
    except (ValueError, TypeError, KeyError) as exc:
        reason = f"key {exc} is missing" if isinstance(exc, KeyError) else exc
        raise DataError(
            f"{path}: expected MVTec LOCO's list of defects: {reason}; take the file of the data set"
        ) from exc


def _defect_spec(entry: Mapping[str, object]) -> DefectSpec:
    name, value = entry["defect_name"], entry["pixel_value"]
    threshold, relative = entry["saturation_threshold"], entry["relative_saturation"]
    if not isinstance(name, str) or not isinstance(relative, bool):
        raise ValueError(f"expected a name and true or false, got {name!r} and {relative!r}")
    if not isinstance(value, int) or not 1 <= value <= 255:
        raise ValueError(f"{name}: expected a pixel_value of 1 to 255, got {value!r}")
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not threshold > 0:
        raise ValueError(f"{name}: expected a saturation_threshold above 0, got {threshold!r}")
    if relative and threshold > 1:
        raise ValueError(f"{name}: expected a relative saturation_threshold of at most 1, got {threshold!r}")
    return DefectSpec(name, value, threshold, relative)


def _anomalies(root: Path, label: str, names: Mapping[int, str]) -> list[Record]:
    truth = root / "ground_truth" / label
    records = []
    for path in image_files(root / "test" / label):
        masks = tuple(image_files(truth / path.stem))
        if truth.is_dir() and not masks:
            raise DataError(
                f"{path}: expected its masks in {truth / path.stem}, found none; "
                f"restore them, or remove {truth} to go without pixel truth"
            )
        records.append(Record(path, "test", label, _defect_type(masks, names, label), masks, root.name))
    return records


def _defect_type(masks: tuple[Path, ...], names: Mapping[int, str], label: str) -> str:
    if not masks or not names:
        return label
    values = dict.fromkeys(int(read_mask(path).max()) for path in masks)
    return " + ".join(names.get(value, f"value {value}") for value in values)
