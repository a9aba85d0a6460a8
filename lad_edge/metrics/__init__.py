"""Scores and ground truth go in, figures of merit come out (methods card §12)."""

from lad_edge.metrics.auroc import PixelAuroc, auroc, roc_curve

__all__ = ["PixelAuroc", "auroc", "roc_curve"]
