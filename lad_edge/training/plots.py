"""Pictures of a training run."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def plot_losses(losses: Path, picture: Path) -> None:
    """One line per loss term over the steps, logarithmic."""
    with losses.open(newline="") as file:
        rows = list(csv.reader(file))
    names, values = rows[0], [[float(value) for value in row] for row in rows[1:]]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    steps = [row[0] for row in values]
    for column, name in enumerate(names[1:], start=1):
        axes.plot(steps, [row[column] for row in values], label=name, linewidth=2 if name == "total" else 1)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=110)
    plt.close(figure)
