"""The file that crosses from the workstation to the edge: manifest, graphs, tables, golden frames; all verified."""

from lad_edge.bundle.device import ENGINES, PRECISIONS, Device
from lad_edge.bundle.gates import Gates
from lad_edge.bundle.golden import GOLDEN_TOLERANCE, spoilt
from lad_edge.bundle.layout import TensorInfo
from lad_edge.bundle.lineage import HISTORY, Change, changed, changes_of, put_in_place, roll_back
from lad_edge.bundle.manifest import (
    FORMAT_VERSION,
    Calibration,
    Contract,
    Cost,
    Golden,
    Graph,
    Manifest,
    Policy,
    bundle_name,
)
from lad_edge.bundle.mask import Mask
from lad_edge.bundle.reader import Bundle, loads, read
from lad_edge.bundle.registration import Registration
from lad_edge.bundle.writer import replace_threshold, rethresholded, write

__all__ = [
    "ENGINES",
    "FORMAT_VERSION",
    "GOLDEN_TOLERANCE",
    "HISTORY",
    "PRECISIONS",
    "Bundle",
    "Calibration",
    "Change",
    "Contract",
    "Cost",
    "Device",
    "Gates",
    "Golden",
    "Graph",
    "Manifest",
    "Mask",
    "Policy",
    "Registration",
    "TensorInfo",
    "bundle_name",
    "changed",
    "changes_of",
    "loads",
    "put_in_place",
    "read",
    "replace_threshold",
    "rethresholded",
    "roll_back",
    "spoilt",
    "write",
]
