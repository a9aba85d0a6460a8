"""Scores and ground truth go in, figures of merit come out (methods card §12)."""

from lad_edge.metrics.auroc import PixelAuroc, auroc, roc_curve
from lad_edge.metrics.delong import Difference, auroc_difference
from lad_edge.metrics.maps import Roi, resize_map
from lad_edge.metrics.overlap import LIMITS, OverlapAreas, Region, components

__all__ = [
    "LIMITS",
    "Difference",
    "OverlapAreas",
    "PixelAuroc",
    "Region",
    "Roi",
    "auroc",
    "auroc_difference",
    "components",
    "resize_map",
    "roc_curve",
]
