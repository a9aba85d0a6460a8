"""EfficientAD (Batzner, Heckler, König, WACV 2024): a student imitates a teacher and an autoencoder (methods card §2).

Where the student fails to imitate the teacher, a part is structurally anomalous; where the autoencoder, which sees the whole picture,
differs from what the student expects of it, logically.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Self

from lad_edge.backbones.pdn import PDN_SIZES, Pdn, load_teacher
from lad_edge.detectors.autoencoder import AUTOENCODER_SIZES, Autoencoder
from lad_edge.detectors.batches import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Images,
    augment_colour,
    autocast,
    channel_statistics,
    check_side,
    decay,
)
from lad_edge.errors import UsageError

HARD_QUANTILE = 0.999  # the share of easiest elements that the hard-feature loss leaves out


@dataclass(frozen=True)
class EfficientAdConfig:
    """The paper's recipe."""

    size: str = "s"
    side: int = 256
    steps: int = 70_000
    batch: int = 1
    student_batch: int | None = None  # how many of them the student sees: it costs most and needs fewest
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    schedule: str = "step"  # or "cosine"
    decay_from: float = 0.95  # "step": share of the steps after which the learning rate falls to a tenth
    seed: int = 42

    instance_norm = False
    sigmoid = False
    penalty = True  # on photographs, where they are given

    def check(self) -> None:
        """Raises UsageError for values out of range."""
        check_student(self)


class StudentConfig(Protocol):
    """What EfficientAD and DFSC have in common."""

    @property
    def size(self) -> str:
        """Width of the networks."""

    @property
    def side(self) -> int:
        """Side of the square input in pixels."""

    @property
    def batch(self) -> int:
        """Images of a step."""

    @property
    def student_batch(self) -> int | None:
        """How many of them the student sees."""

    @property
    def instance_norm(self) -> bool:
        """Whether the autoencoder normalises each instance."""


def check_student(config: StudentConfig) -> None:
    """Raises UsageError for values out of range."""
    check_side(config.side)
    if config.size not in PDN_SIZES:
        raise UsageError(f"--size {config.size}: expected one of {', '.join(PDN_SIZES)}")
    if config.student_batch is not None and not 1 <= config.student_batch <= config.batch:
        raise UsageError(f"--student-batch {config.student_batch}: expected 1 to --batch, which is {config.batch}")


class EfficientAd(nn.Module):
    """Teacher, student and autoencoder with the teacher's channel statistics: all that inference needs.

    forward: normalised images (N, 3, side, side) → raw maps (N, 2, h, w): structural (teacher against student) and logical
    (autoencoder against student), each the mean square over channels.
    """

    mean: Tensor
    std: Tensor
    input_mean, input_std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, size: str, side: int, *, instance_norm: bool) -> None:
        super().__init__()
        self.size, pdn = size, PDN_SIZES[size]
        self.channels = pdn.out_channels
        self.teacher = Pdn(pdn).requires_grad_(False).eval()
        self.student = Pdn(pdn, 2 * pdn.out_channels)
        self.autoencoder = Autoencoder(AUTOENCODER_SIZES[size], pdn.out_channels, side, instance_norm=instance_norm)
        self.register_buffer("mean", torch.zeros(pdn.out_channels, 1, 1))
        self.register_buffer("std", torch.ones(pdn.out_channels, 1, 1))

    @classmethod
    def of(cls, config: StudentConfig) -> Self:
        """The untrained networks of a configuration."""
        return cls(config.size, config.side, instance_norm=config.instance_norm)

    @torch.no_grad()
    def describe(self, image: Tensor) -> Tensor:
        """The teacher's description, standardised per channel."""
        described: Tensor = self.teacher(image).float()
        return (described - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        """Raw anomaly maps."""
        imitates_teacher, imitates_autoencoder = self.student(image).chunk(2, 1)
        structural = (self.describe(image) - imitates_teacher).square().mean(1)
        logical = (self.autoencoder(image) - imitates_autoencoder).square().mean(1)
        return torch.stack([structural, logical], 1)

    def load_frozen(self, weights: Path | None) -> None:
        """Put the weights of `train-teacher` into the teacher. Raises UsageError if there are none or they do not fit."""
        load_teacher(self.teacher, self.size, weights)

    @torch.no_grad()
    def prepare(self, images: Images) -> None:
        """Mean and standard deviation of the teacher over all training images and positions."""
        mean, std = channel_statistics(self.teacher, images)
        self.mean.copy_(mean)
        self.std.copy_(std)


class EfficientAdTask:
    """One training step of EfficientAD: hard features, penalty on photographs, autoencoder, student of the autoencoder."""

    def __init__(
        self, networks: EfficientAd, images: Images, config: EfficientAdConfig, photographs: Images | None = None
    ) -> None:
        self.networks, self.images, self.photographs, self.config = networks, images, photographs, config
        self.modules: Mapping[str, nn.Module] = {"networks": networks}
        trained = [*networks.student.parameters(), *networks.autoencoder.parameters()]
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(
            trained, config.learning_rate, weight_decay=config.weight_decay
        )
        self.schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, decay(config)
        )

    def losses(self, step: int) -> dict[str, Tensor]:
        """The four terms, weighted alike (methods card §2.5)."""
        pixels = self.images.pixels(step, self.config.batch)
        image, augmented = self.images.normalise(pixels), self.images.normalise(augment_colour(pixels))
        networks, channels, seen = self.networks, self.networks.channels, self.config.student_batch or len(image)
        with autocast(image.device):
            described = networks.describe(torch.cat([image[:seen], augmented]))
            imitated = networks.student(torch.cat([image[:seen], augmented[:seen]])).float()
            reconstructed = networks.autoencoder(augmented).float()
        imitates_teacher, imitates_autoencoder = imitated[:seen, :channels], imitated[seen:, channels:]
        terms = {
            "hard": hardest_mean((described[:seen] - imitates_teacher).square()),
            "autoencoder": functional.mse_loss(reconstructed, described[seen:]),
            "student_autoencoder": functional.mse_loss(imitates_autoencoder, reconstructed[:seen]),
        }
        return terms | self._penalty(step)

    def _penalty(self, step: int) -> dict[str, Tensor]:
        """Keep the student from imitating the teacher on pictures that have nothing to do with the part."""
        if self.photographs is None:
            return {}
        photograph = self.photographs.normalise(
            self.photographs.pixels(step, self.config.student_batch or self.config.batch)
        )
        with autocast(photograph.device):
            imitated = self.networks.student(photograph)[:, : self.networks.channels].float()
        return {"penalty": imitated.square().mean()}

    def after_step(self) -> None:
        """Nothing to average."""


def hardest_mean(squares: Tensor, quantile: float = HARD_QUANTILE) -> Tensor:
    """Mean over the elements at or above the quantile, per image of (N, C, H, W): top-k, because that needs no full sort."""
    return hardest(squares, quantile).mean()


def hardest(squares: Tensor, quantile: float = HARD_QUANTILE) -> Tensor:
    """The elements at or above the linearly interpolated quantile, per image: (N, k), largest first."""
    flat = squares.flatten(1)
    kept = flat.shape[1] - math.ceil(quantile * (flat.shape[1] - 1))
    return flat.topk(kept, dim=1).values
