"""Distils a PDN teacher from a frozen backbone on ordinary photographs (methods card §2.4)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from lad_edge.backbones.frozen import backbone
from lad_edge.backbones.pdn import PDN_SIZES, Pdn, description_side
from lad_edge.detectors.batches import IMAGENET_MEAN, IMAGENET_STD, autocast, cosine
from lad_edge.errors import UsageError
from lad_edge.training.checkpoint import save_tensors
from lad_edge.training.photographs import load_photographs
from lad_edge.training.trainer import LoopConfig, choose_device, run_training, step_seed

BACKBONE_SIDE, PDN_SIDE, DESCRIPTION_SIDE = 512, 256, 64
POOLED_CHANNELS = 1024

Describe = Callable[[Tensor], Sequence[Tensor]]  # (N, 3, 512, 512) RGB in [0, 255] → two maps, at strides 8 and 16


@dataclass(frozen=True)
class DistillationConfig:
    """The recipe of EfficientAD's teacher; steps, batch and learning rate default to the card."""

    size: str = "s"
    backbone: str = "efficientnet-lite0"
    steps: int = 60_000
    batch: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    crops_per_photograph: int = (
        8  # crops are drawn once and their backbone features kept: the backbone then costs nothing per step
    )
    window: int = PDN_SIDE  # side in pixels of the part of each crop that a step learns from; less is quicker and as good per pixel
    grey_probability: float = 0.1
    seed: int = 0


class NeighbourhoodTargets(nn.Module):
    """Targets (N, channels, 64, 64) from feature maps of the backbone, finest first.

    The card takes 3×3 neighbourhood vectors of each map, brings them to 64×64, pools each vector to 1024 numbers,
    concatenates the levels and pools again to `channels` (methods card §2.4, after PatchCore's descriptors). All of it is
    linear, so each level is one 3×3 convolution with a fixed kernel, followed by the resize.
    """

    def __init__(self, level_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.kernels = nn.ParameterList(_pooling_kernels(level_channels, channels)).requires_grad_(False)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Pool every level to all channels and add: a channel that a level does not reach has a zero kernel there."""
        side = (DESCRIPTION_SIDE, DESCRIPTION_SIDE)
        pooled = [
            functional.conv2d(level, kernel, padding=1) for level, kernel in zip(levels, self.kernels, strict=True)
        ]
        return torch.stack(
            [functional.interpolate(p, size=side, mode="bilinear", align_corners=False) for p in pooled]
        ).sum(0)


def _pooling_kernels(level_channels: Sequence[int], channels: int) -> list[Tensor]:
    """Per level (channels, C, 3, 3): the two poolings applied to unit vectors."""
    wide = [
        functional.adaptive_avg_pool1d(torch.eye(9 * c)[None], POOLED_CHANNELS)[0] for c in level_channels
    ]  # (9C, 1024)
    stacked: Tensor = torch.block_diag(*wide)  # type: ignore[no-untyped-call]
    joint = functional.adaptive_avg_pool1d(stacked[None], channels)[0]  # (sum of 9C, channels)
    parts = torch.split(joint, [9 * c for c in level_channels])
    return [part.T.reshape(channels, c, 3, 3).contiguous() for part, c in zip(parts, level_channels, strict=True)]


class CropCache:
    """Random crops of photographs beside the backbone's features of them, computed once.

    pixels: (M, 3, 256, 256) uint8; features: per level (M, C, h, w) float16; M = photographs x crops.
    """

    def __init__(
        self,
        photographs: Sequence[NDArray[np.uint8]],
        describe: Describe,
        config: DistillationConfig,
        device: torch.device,
    ) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        count = len(photographs) * config.crops_per_photograph
        self.pixels = torch.empty(count, 3, PDN_SIDE, PDN_SIDE, dtype=torch.uint8)
        self.features: list[Tensor] = []
        for index in tqdm(range(count), desc="backbone features", unit="crop", disable=not sys.stderr.isatty()):
            photograph = torch.from_numpy(photographs[index % len(photographs)])
            crop = _random_crop(photograph, config.grey_probability, generator).to(device)
            with torch.inference_mode(), autocast(device):
                levels = describe(_resize(crop, BACKBONE_SIDE))
            if not self.features:
                self.features = [torch.empty(count, *level.shape[1:], dtype=torch.float16) for level in levels]
            self.pixels[index] = _resize(crop, PDN_SIDE)[0].round().clamp(0, 255).to(torch.uint8)
            for kept, level in zip(self.features, levels, strict=True):
                kept[index] = level[0]

    def batch(self, indices: Tensor, device: torch.device) -> tuple[Tensor, list[Tensor]]:
        """Images (N, 3, 256, 256), normalised as ImageNet's, and the feature maps of the backbone."""
        images = self.pixels[indices].to(device).float() / 255
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        levels = [level[indices].to(device).float() for level in self.features]
        return (images - mean) / std, levels


def _random_crop(photograph: Tensor, grey_probability: float, generator: torch.Generator) -> Tensor:
    """A square crop of 70-100 % of the shorter side, mirrored half of the time: (1, 3, s, s) float in [0, 255]."""
    height, width, _ = photograph.shape
    u = torch.rand(5, generator=generator)
    side = int(min(height, width) * float(0.7 + 0.3 * u[0]))
    top, left = int(u[1] * (height - side + 1)), int(u[2] * (width - side + 1))
    crop = photograph[top : top + side, left : left + side].permute(2, 0, 1)[None].float()
    if u[3] < 0.5:
        crop = crop.flip(3)
    if u[4] < grey_probability:
        crop = (crop * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    return crop


def _resize(image: Tensor, side: int) -> Tensor:
    return functional.interpolate(image, size=(side, side), mode="bilinear", antialias=True)


class Distillation:
    """The task: a PDN learns the standardised targets by mean squared error.

    Whole crops go through the padded PDN, as on the card. A smaller window goes through the unpadded one, which describes the same
    33×33 patches: neighbours in one picture teach nearly the same, so many small windows teach more per second than few whole crops.
    """

    def __init__(self, config: DistillationConfig, cache: CropCache, device: torch.device) -> None:
        size = PDN_SIZES[config.size]
        torch.manual_seed(config.seed)
        self.config, self.cache, self.device = config, cache, device
        self.targets = NeighbourhoodTargets([level.shape[1] for level in cache.features], size.out_channels).to(device)
        self.student = Pdn(size, padded=config.window == PDN_SIDE).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.statistics = ChannelStatistics(cache, self.targets, device)
        self.modules: Mapping[str, nn.Module] = {"teacher": self.student}
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(
            self.student.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        # The card keeps lr constant for 60 000 steps; a cosine reaches a lower loss in the shorter schedules that a CPU affords.
        # As a function of the step alone it also lets a stopped run go on with more steps than it was begun with.
        self.schedule: torch.optim.lr_scheduler.LRScheduler | None = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: cosine(step, config.steps)
        )

    def losses(self, step: int) -> dict[str, Tensor]:
        """Mean squared error on one batch of cached crops."""
        generator = torch.Generator().manual_seed(step_seed(self.config.seed, step))
        indices = torch.randint(len(self.cache.pixels), (self.config.batch,), generator=generator)
        images, features = self.cache.batch(indices, self.device)
        targets = self.statistics.standardise(self.targets(features))
        if self.config.window < PDN_SIDE:
            images, targets = cut_windows(images, targets, self.config.window, generator)
        with autocast(self.device):
            described = self.student(images.contiguous(memory_format=torch.channels_last))
        return {"distillation": functional.mse_loss(described.float(), targets)}

    def after_step(self) -> None:
        """Nothing to average."""


def cut_windows(images: Tensor, targets: Tensor, window: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One random window of each image (N, 3, 256, 256) with the targets (N, C, 64, 64) of the patches that lie wholly inside.

    Cell 4 of the padded description is the patch that begins at pixel 0: the padding of all layers adds up to 16 px, four cells.
    """
    cells = description_side(window)
    starts = torch.randint((PDN_SIDE - window) // 4 + 1, (len(images), 2), generator=generator).tolist()
    parts = [
        image[:, 4 * y : 4 * y + window, 4 * x : 4 * x + window] for image, (y, x) in zip(images, starts, strict=True)
    ]
    inside = [
        target[:, y + 4 : y + 4 + cells, x + 4 : x + 4 + cells] for target, (y, x) in zip(targets, starts, strict=True)
    ]
    return torch.stack(parts), torch.stack(inside)


class ChannelStatistics:
    """Mean and standard deviation of the targets per channel over all crops, or `most` drawn from many.

    Accumulated in float64 (the one-pass form in float32 loses digits).
    """

    def __init__(self, cache: CropCache, targets: NeighbourhoodTargets, device: torch.device, most: int = 1024) -> None:
        generator, crops = torch.Generator().manual_seed(0), len(cache.pixels)
        chosen = torch.arange(crops) if crops <= most else torch.randint(crops, (most,), generator=generator)
        total = square = torch.zeros((), dtype=torch.float64)
        count = 0
        for indices in torch.split(chosen, 16):
            _, features = cache.batch(indices, device)
            values = targets(features).transpose(0, 1).flatten(1).double().cpu()
            total, square, count = total + values.sum(1), square + values.square().sum(1), count + values.shape[1]
        self.mean = (total / count).float().view(-1, 1, 1).to(device)
        self.std = (square / count - (total / count).square()).sqrt().float().clamp_min(1e-6).view(-1, 1, 1).to(device)

    def standardise(self, targets: Tensor) -> Tensor:
        """Zero mean and unit variance per channel."""
        return (targets - self.mean) / self.std


def describe_with(name: str, weights: Path | None, device: torch.device) -> Describe:
    """The frozen network that is imitated."""
    kind = backbone(name)
    network = kind.pretrained(weights).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (kind.mean, kind.std))
    return lambda rgb_255: network((rgb_255 - mean) / std)


def train_teacher(
    photographs: Path,
    out: Path,
    config: DistillationConfig,
    *,
    weights: Path | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Distil a teacher on a folder of photographs and write `out` (safetensors, float16). Resumes from the run folder beside it.

    Raises DataError without usable photographs, UsageError for an unknown size or backbone. Returns the metadata that was written.
    """
    if config.size not in PDN_SIZES:
        raise UsageError(f"--size {config.size}: expected one of {', '.join(PDN_SIZES)}")
    if config.window % 4 or not 64 <= config.window <= PDN_SIDE:
        raise UsageError(f"--window {config.window}: expected a multiple of 4 from 64 to {PDN_SIDE}")
    where = choose_device(device)
    pictures = load_photographs(photographs)
    folder = out.with_suffix(".run")
    folder.mkdir(parents=True, exist_ok=True)
    cache = CropCache(pictures, describe_with(config.backbone, weights, where), config, where)
    task = Distillation(config, cache, where)
    meta = {"kind": "teacher", **asdict(config), "photographs": len(pictures)}
    seconds = run_training(task, LoopConfig(config.steps, config.seed, quiet=quiet), folder, meta)
    meta |= {"seconds": round(seconds), "device": str(where), "final_loss": round(_final_loss(task), 4)}
    save_tensors(out, {name: value.half() for name, value in task.student.state_dict().items()}, meta)
    return meta


def _final_loss(task: Distillation, batches: int = 16) -> float:
    """Loss over fixed batches of the cache, without gradients."""
    with torch.no_grad():
        return float(np.mean([float(task.losses(step)["distillation"]) for step in range(batches)]))
