"""Which layout a folder has, and the one door through which data sets are opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.datasets.folder import is_folder, open_folder_root
from lad_edge.datasets.mvtec_3d import is_mvtec_3d, open_mvtec_3d
from lad_edge.datasets.mvtec_ad import is_mvtec_ad, open_mvtec_ad
from lad_edge.datasets.mvtec_loco import is_mvtec_loco, open_mvtec_loco
from lad_edge.datasets.records import Dataset, subfolders
from lad_edge.datasets.visa import is_visa, open_visa
from lad_edge.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# In the order in which `auto` asks: the more particular first.
_LAYOUTS: Mapping[str, tuple[Callable[[Path], bool], Callable[[Path], Dataset]]] = {
    "mvtec_3d": (is_mvtec_3d, open_mvtec_3d),
    "mvtec_loco": (is_mvtec_loco, open_mvtec_loco),
    "mvtec_ad": (is_mvtec_ad, open_mvtec_ad),
    "visa": (is_visa, open_visa),
    "folder": (is_folder, open_folder_root),
}
LAYOUTS = ("auto", *_LAYOUTS)


def open_dataset(path: str | Path, layout: str = "auto") -> Dataset:
    """Opens one category. layout: one of LAYOUTS; `auto` goes by folder names only.

    Raises DataError when the folder is missing, empty, of no known layout or holds several categories; UsageError for
    an unknown layout.
    """
    root = Path(path)
    if layout not in LAYOUTS:
        raise UsageError(f"expected a layout of {', '.join(LAYOUTS)}, got '{layout}'")
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DataError(f"expected a folder of images at {root}, found {found}; check the path")
    name = _detected(root) if layout == "auto" else layout
    return _LAYOUTS[name][1](root)


def categories(root: str | Path) -> list[Path]:
    """The folders below a data set's root that `open_dataset` opens, sorted by name; the root alone if it is one itself.

    Beside categories of another layout, plain folders with images are none. Raises DataError if there are no categories.
    """
    root = Path(root)
    if _layout_of(root):
        return [root]
    found = {folder: name for folder in subfolders(root) if (name := _layout_of(folder))}
    only_folders = set(found.values()) == {"folder"}
    if not found:
        raise DataError(
            f"{root}: expected a category or folders that are some, found none; point to the folder that holds e.g. "
            "bottle/train/good"
        )
    return [folder for folder, name in found.items() if only_folders or name != "folder"]


def choose_categories(root: str | Path, names: Sequence[str] = ()) -> dict[str, Path]:
    """Name → folder of these categories of a data set; of all of them without names. Raises UsageError for a name that is none."""
    root = Path(root)
    folders = {(folder.resolve() if folder == root else folder).name: folder for folder in categories(root)}
    for name in names:
        if name not in folders:
            raise UsageError(f"category '{name}': expected one of {', '.join(folders)}")
    return {name: folders[name] for name in names or folders}


def _layout_of(root: Path) -> str | None:
    return next((name for name, (fits, _) in _LAYOUTS.items() if fits(root)), None)


def _detected(root: Path) -> str:
    name = _layout_of(root)
    if name:
        return name
    found = [folder for folder in subfolders(root) if _layout_of(folder)]
    if found:
        raise DataError(
            f"{root} holds categories, not images; give one of its {len(found)}, e.g. {found[0]}, "
            "or train one detector for all with --categories all"
        )
    raise DataError(
        f"{root}: expected good images directly in it, in good/ or in train/good/, found neither; "
        "PNG, JPEG, BMP and TIFF are read"
    )
