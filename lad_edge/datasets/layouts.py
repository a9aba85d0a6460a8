"""Which layout a folder has, and the one door through which data sets are opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.datasets.folder import is_folder, open_folder_root
from lad_edge.datasets.mvtec_3d import is_mvtec_3d, open_mvtec_3d
from lad_edge.datasets.mvtec_ad import is_mvtec_ad, open_mvtec_ad
from lad_edge.datasets.mvtec_loco import is_mvtec_loco, open_mvtec_loco
from lad_edge.datasets.records import Dataset, subfolders
from lad_edge.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# In the order in which `auto` asks: the more particular first.
_LAYOUTS: Mapping[str, tuple[Callable[[Path], bool], Callable[[Path], Dataset]]] = {
    "mvtec_3d": (is_mvtec_3d, open_mvtec_3d),
    "mvtec_loco": (is_mvtec_loco, open_mvtec_loco),
    "mvtec_ad": (is_mvtec_ad, open_mvtec_ad),
    "folder": (is_folder, open_folder_root),
}
LAYOUTS = ("auto", *_LAYOUTS)


def open_dataset(path: str | Path, layout: str = "auto") -> Dataset:
    """Opens one category. layout: auto, folder, mvtec_ad, mvtec_loco or mvtec_3d; `auto` goes by folder names only.

    Raises DataError when the folder is missing, empty, of no known layout or holds several categories; UsageError for
    an unknown layout.
    """
    root = Path(path)
    if layout not in LAYOUTS:
        raise UsageError(f"expected a layout of {', '.join(LAYOUTS)}, got '{layout}'")
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DataError(f"expected a folder of images at {root}, found {found}; check the path")
    name = _layout_of(root) if layout == "auto" else layout
    return _LAYOUTS[name][1](root)


def _layout_of(root: Path) -> str:
    for name, (fits, _) in _LAYOUTS.items():
        if fits(root):
            return name
    categories = [sub.name for sub in subfolders(root) if any(fits(sub) for fits, _ in _LAYOUTS.values())]
    if categories:
        raise DataError(
            f"{root} holds categories, not images; give one of its {len(categories)}, e.g. {root / categories[0]}"
        )
    raise DataError(
        f"{root}: expected good images directly in it, in good/ or in train/good/, found neither; "
        "PNG, JPEG, BMP and TIFF are read"
    )
