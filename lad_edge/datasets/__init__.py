"""A folder on disk goes in; a frozen list of records (path, split, label, masks) comes out.

No torch, no pixels kept.
"""

from lad_edge.datasets.layouts import LAYOUTS, categories, choose_categories, open_dataset
from lad_edge.datasets.masks import Channel, read_channels, read_masks
from lad_edge.datasets.records import Dataset, DefectSpec, Record

__all__ = [
    "LAYOUTS",
    "Channel",
    "Dataset",
    "DefectSpec",
    "Record",
    "categories",
    "choose_categories",
    "open_dataset",
    "read_channels",
    "read_masks",
]
