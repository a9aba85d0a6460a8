"""EfficientAD with the Distinctive Feature Separation Constraint (methods card §3).

The constraint pushes the autoencoder's description away from the teacher's where they already differ most, so that logical anomalies,
which the autoencoder cannot reproduce, stand out. Beside it: instance norm in the autoencoder, no augmentation, no photographs, and a
moving average of the student, which is the student that is exported.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.detectors.batches import Descriptions, Images, autocast, decay
from lad_edge.detectors.efficient_ad import HARD_QUANTILE, EfficientAd, check_student, hardest, hardest_mean


@dataclass(frozen=True)
class DfscConfig:
    """The paper's recipe; `margin` 1.0 is the best single value of its study (decision D-4)."""

    size: str = "s"
    side: int = 256
    steps: int = 70_000
    batch: int = 1
    student_batch: int | None = None  # how many of them the student sees: it costs most and needs fewest
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    schedule: str = "step"  # or "cosine"
    decay_from: float = 0.9
    margin: float = 1.0
    weight: float = 2.0
    momentum: float = 0.99  # of the moving average of the student
    seed: int = 42

    instance_norm = True
    sigmoid = True
    penalty = False

    def check(self) -> None:
        """Raises UsageError for values out of range."""
        check_student(self)


class DfscTask:
    """One training step: teacher, student and autoencoder see the same picture, so the teacher's answers can be kept."""

    def __init__(self, networks: EfficientAd, images: Images, config: DfscConfig) -> None:
        self.networks, self.images, self.config = networks, images, config
        self.online = copy.deepcopy(networks.student)  # receives gradients; networks.student is its moving average
        self.modules: Mapping[str, nn.Module] = {"networks": networks, "online": self.online}
        trained = [*self.online.parameters(), *networks.autoencoder.parameters()]
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(
            trained, config.learning_rate, betas=(0.9, 0.997), weight_decay=config.weight_decay
        )
        decayed = decay(config)
        self.schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: _warm_up(step) * decayed(step)
        )
        networks.student.requires_grad_(False)
        self.descriptions = Descriptions(networks.describe, images)

    def losses(self, step: int) -> dict[str, Tensor]:
        """Mean squared errors, hard features and the constraint (methods card §3)."""
        image, described = (of.batch(step, self.config.batch) for of in (self.images, self.descriptions))
        seen = self.config.student_batch or len(image)
        with autocast(image.device):
            imitates_teacher, imitates_autoencoder = self.online(image[:seen]).float().chunk(2, 1)
            reconstructed = self.networks.autoencoder(image).float()
        return {
            "hard": hardest_mean((described[:seen] - imitates_teacher).square()),
            "autoencoder": functional.mse_loss(reconstructed, described),
            "student_autoencoder": functional.mse_loss(imitates_autoencoder, reconstructed[:seen]),
            "separation": self.config.weight * separation(described, reconstructed, self.config.margin),
        }

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the averaged student towards the online one."""
        for average, online in zip(self.networks.student.parameters(), self.online.parameters(), strict=True):
            average.lerp_(online, 1 - self.config.momentum)


def _warm_up(step: int) -> float:
    """Exponential warm-up with the time constant of beta2 (Ma & Yarats, 2021)."""
    return 1 - math.exp(-(1 - 0.997) * (step + 1))


def separation(described: Tensor, reconstructed: Tensor, margin: float) -> Tensor:
    """L_DFSC: hinge on the distance of the unit vectors, over the channels whose error is among the largest 0.1 %.

    Both are (N, C, H, W). The vectors are normalised whole and masked afterwards (decision D-1); a position without a selected channel
    contributes the constant margin, and `where` keeps the root's infinite slope at 0 out of the gradient.
    """
    errors = (described - reconstructed).detach().square()
    selected = errors >= hardest(errors, HARD_QUANTILE)[:, -1].view(-1, 1, 1, 1)
    difference = functional.normalize(described, dim=1) - functional.normalize(reconstructed, dim=1)
    squares = torch.where(selected, difference, torch.zeros_like(difference)).square().sum(1)
    touched = squares > 0
    distance = torch.where(
        touched, torch.where(touched, squares, torch.ones_like(squares)).sqrt(), torch.zeros_like(squares)
    )
    return (margin - distance).clamp_min(0).mean()
