"""Judged images go in, pictures for a person come out: ROC curves, score histogram, one example of each kind."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from lad_edge.metrics.auroc import auroc, roc_curve

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"good": "#2f7d4f", "logical_anomalies": "#b8621b", "structural_anomalies": "#7a4fb5", "defect": "#b83232"}


def roc_picture(scores: Mapping[str, Sequence[float]], path: Path) -> None:
    """One ROC curve per anomalous label; `scores` maps label → image scores, "good" among them."""
    figure, axes = plt.subplots(figsize=(5.5, 5.2), layout="constrained")
    for label, values in sorted(scores.items()):
        if label != "good" and len(values):
            false, true = roc_curve(scores["good"], values)
            name = f"{label.replace('_', ' ')}: {auroc(scores['good'], values):.3f} (n = {len(values)})"
            axes.step(false, true, where="post", label=name, color=COLOURS.get(label), linewidth=2)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
    axes.set(
        xlabel="good parts rejected",
        ylabel="anomalous parts found",
        xlim=(-0.01, 1),
        ylim=(0, 1.01),
        title="image AUROC",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def score_picture(scores: Mapping[str, Sequence[float]], threshold: float, path: Path) -> None:
    """Histogram of the image scores per label with the threshold; the few scores beyond the 98 % quantile share the last bin."""
    everything = np.concatenate([np.asarray(values, np.float64) for values in scores.values() if len(values)])
    top = max(float(np.quantile(everything, 0.98)), threshold * 1.2)
    bins = np.linspace(float(everything.min()), top, 41)
    figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
    for label in sorted(scores, key=lambda name: name != "good"):
        axes.hist(
            np.minimum(scores[label], top),
            bins,
            alpha=0.6,
            label=f"{label.replace('_', ' ')} (n = {len(scores[label])})",
            color=COLOURS.get(label),
        )
    axes.axvline(threshold, color="black", linewidth=1.5, label=f"threshold {threshold:.4g}")
    axes.set(xlabel="image score", ylabel="images")
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


@dataclass(frozen=True)
class Example:
    """One judged image. image, drawn: (H, W, 3) BGR, as it came and as the line shows it; findings: sentences."""

    title: str
    image: NDArray[np.uint8]
    drawn: NDArray[np.uint8]
    findings: Sequence[str]


def example_picture(examples: Sequence[Example], path: Path) -> None:
    """Side by side: each image, under it what the line shows of it, under that what was found in words."""
    heights = [max(_steepness(one.image) for one in examples), max(_steepness(one.drawn) for one in examples)]
    figure, axes = plt.subplots(
        2,
        len(examples),
        figsize=(5 * len(examples), 5 * sum(heights) + 1.5),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for (above, below), example in zip(axes.T, examples, strict=True):
        above.set_title(example.title)
        for part, picture in ((above, example.image), (below, example.drawn)):
            part.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            part.set_axis_off()
            part.set_anchor("N")
        said = "\n".join(textwrap.fill(sentence, 56) for sentence in example.findings)
        below.text(0, -0.02, said, transform=below.transAxes, va="top", fontsize=9)
    figure.savefig(path, dpi=80, bbox_inches="tight")
    plt.close(figure)


def _steepness(picture: NDArray[np.uint8]) -> float:
    height, width = picture.shape[:2]
    return float(height / width)
