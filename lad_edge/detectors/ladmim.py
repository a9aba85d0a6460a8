"""LADMIM: rebuilds features from codes, and predicts how often each code occurs where nothing can be seen (methods card §6).

The first stage is HVQ-Trans (`hvq.py`): where the rebuilt features differ, a part is structurally anomalous. The second is masked image
modelling: a vision transformer sees the features with some tokens hidden and predicts the histograms of the hidden tokens' codes, at
each level. How many patches of which kind there are is what logic is about: where prediction and count differ, a part is logically
anomalous. Other things to predict, for comparison, are in `targets.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.backbones.pdn import PDN_SIZES, Pdn, description_side, load_teacher
from lad_edge.detectors.batches import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Descriptions,
    Images,
    autocast,
    channel_statistics,
)
from lad_edge.detectors.hvq import Attention, Hvq, HvqConfig
from lad_edge.detectors.masks import MASKINGS, Mask, balanced_masks
from lad_edge.detectors.targets import TARGETS, Target, Truth, counted
from lad_edge.errors import UsageError

POOL = 4000  # masks that the fixed set is chosen from
STRUCTURAL_SCORES = ("max", "mean")
WARM_UP = 0.08  # share of the steps: 40 of 500 epochs
LOWEST_RATE = 0.01  # of the cosine's beginning and end, over the full rate
MIM_WEIGHT_DECAY = 1e-6
TAIL = 0.1  # of an entry's places that the summary of them leaves out, on each side


@dataclass(frozen=True)
class LadmimConfig(HvqConfig):
    """Both stages; the fields of the first are those of `HvqConfig`."""

    mim_width: int = 512
    mim_heads: int = 8
    mim_layers: int = 4
    mim_epochs: int = 500
    mim_steps: int = 0  # 0: as many as the epochs hold
    mim_batch: int = 32
    mim_learning_rate: float = 1e-4
    layer_scale: float = 1e-4  # with which each layer's share begins
    target: str = "histogram"  # of codes; "code", "feature" or "pixel" of each hidden token (Table 8)
    masking: str = "block"
    mask_ratio: float = 0.226  # hidden tokens over all: 130 of 576 (L-9)
    block_share: float = 0.08  # of the smallest block, over all: 46 tokens
    test_masks: int = 16  # (L-10)
    structural_score: str = "max"  # of the enlarged map's 16×16 means, or "mean" of the squares (L-7)
    mask_statistics: bool = False  # standardise each mask's score by itself before the mean (§6.5)

    def check(self) -> None:
        """Raises UsageError for values out of range."""
        super().check()
        choices = {"masking": tuple(MASKINGS), "target": tuple(TARGETS), "structural_score": STRUCTURAL_SCORES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)}: expected one of {', '.join(known)}")
        if not 0.01 <= self.mask_ratio <= 0.9 or not 0 < self.block_share <= self.mask_ratio:
            raise UsageError(
                f"mask_ratio {self.mask_ratio}, block_share {self.block_share}: "
                "expected a ratio from 0.01 to 0.9 and a share above 0 and up to it"
            )
        if self.mim_width % self.mim_heads:
            raise UsageError(f"mim_width {self.mim_width}: expected a multiple of the {self.mim_heads} heads")
        for name in ("mim_layers", "mim_batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least 1")
        if min(self.steps, self.mim_steps) < 0 or min(self.epochs, self.mim_epochs) < 1:
            raise UsageError("steps, mim_steps, epochs, mim_epochs: expected steps of at least 0, and at least 1 epoch")
        if not 1 <= self.test_masks <= 256:
            raise UsageError(f"test_masks {self.test_masks}: expected 1 to 256")

    def draw_masks(self, generator: np.random.Generator, count: int, side: int) -> Mask:
        """(count, side²) masks of this recipe."""
        hidden, least = round(self.mask_ratio * side**2), max(1, round(self.block_share * side**2))
        return np.stack([MASKINGS[self.masking](generator, side, hidden, least).ravel() for _ in range(count)])


class Ladmim(nn.Module):
    """Teacher with its channel statistics, both transformers, the fixed masks, and what the codes of good parts look like under them.

    describe: normalised images (N, 3, 224, 224) → h0 (N, C, 24, 24).
    forward: one image → the structural map (24, 24), scores of the masks (M,) and codes (1 + levels, 576).
    masks: (M, 576) bool. ranges: (2, M, levels, K) int32, least and most tokens of each code under each mask. places: (levels, K, 4)
    int32, first and last row and column between which a code is found mostly; -1 for codes that good parts do not have.
    """

    mean: Tensor
    std: Tensor
    masks: Tensor
    ranges: Tensor
    places: Tensor
    input_mean, input_std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, config: LadmimConfig) -> None:
        super().__init__()
        self.config, pdn = config, PDN_SIZES[config.size]
        self.channels, self.side = pdn.out_channels, description_side(config.side) // 2
        self.teacher = Pdn(pdn).requires_grad_(False).eval()
        self.hvq = Hvq(self.channels, self.side, config)
        self.mim = MimTransformer(self.channels, self.side**2, config)
        count = (config.test_masks, config.layers, config.entries)
        self.register_buffer("mean", torch.zeros(self.channels, 1, 1))
        self.register_buffer("std", torch.ones(self.channels, 1, 1))
        self.register_buffer("masks", torch.zeros(config.test_masks, self.side**2, dtype=torch.bool))
        self.register_buffer("ranges", torch.zeros(2, *count, dtype=torch.int32))
        self.register_buffer("places", torch.full((*count[1:], 4), -1, dtype=torch.int32))

    def load_frozen(self, weights: Path | None) -> None:
        """Put the weights of `train-teacher` into the teacher. Raises UsageError if there are none or they do not fit."""
        load_teacher(self.teacher, self.config.size, weights)

    @torch.no_grad()
    def pooled(self, image: Tensor) -> Tensor:
        """The teacher's description, averaged over 2×2 cells: (N, C, 24, 24)."""
        return functional.avg_pool2d(self.teacher(image), 2).float()

    @torch.no_grad()
    def describe(self, image: Tensor) -> Tensor:
        """h0: the same, standardised per channel."""
        return (self.pooled(image) - self.mean) / self.std

    def prepare(self, images: Images) -> None:
        """Measure the features of the training images and choose the masks."""
        mean, std = channel_statistics(self.pooled, images)
        self.mean.copy_(mean)
        self.std.copy_(std)
        pool = self.config.draw_masks(np.random.default_rng(self.config.seed), POOL, self.side)
        self.masks.copy_(torch.from_numpy(balanced_masks(pool, self.config.test_masks)))

    def specialise(self, images: Images) -> None:
        """After training on several categories: summarise the codes of one of them alone, by its training images."""
        self.measure(self.level_codes(images))

    @torch.no_grad()
    def level_codes(self, images: Images) -> Tensor:
        """(images, levels, 576) int16, without the top codes."""
        return torch.cat([self.hvq.codes(self.describe(image))[:, 1:].short() for image in images.each()])

    @torch.no_grad()
    def measure(self, codes: Tensor) -> None:
        """Summarise the codes (images, levels, 576) of the training images: `ranges` and `places`."""
        for index, mask in enumerate(self.masks):
            counts = counted(codes, mask.expand(len(codes), -1), self.config.entries)
            self.ranges[0, index], self.ranges[1, index] = counts.amin(0), counts.amax(0)
        self.places.copy_(common_places(codes, self.config.entries, self.side))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What both scores are made of."""
        features = self.describe(image)
        codes = self.hvq.codes(features)
        rebuilt = self.hvq.decode(self.hvq.quantisers.memories(codes[:, 1:]))
        structural = (rebuilt - features).square().sum(1).sqrt()[0]
        truth = Truth(image, features, codes[:, 1:]).expand(len(self.masks))
        predicted = torch.cat([self.mim(features, mask[None]) for mask in self.masks])
        return structural, self.mim.target.distance(predicted, truth, self.masks), codes[0]


def common_places(codes: Tensor, entries: int, side: int) -> Tensor:
    """Per level and code the rows and columns between which the middle 80 % of its tokens lie: (levels, K, 4) int32, -1 without any."""
    found = torch.full((codes.shape[1], entries, 4), -1, dtype=torch.int32)
    cell = torch.arange(side * side).repeat(len(codes))
    for level, flat in enumerate(codes.transpose(0, 1).flatten(1).cpu().long()):
        for code in flat.unique().tolist():
            cells = cell[flat == code]
            for start, line in ((0, cells // side), (2, cells % side)):
                ends = torch.quantile(line.double(), torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64))
                found[level, code, start : start + 2] = ends.round().int()
    return found


class MimTransformer(nn.Module):
    """h0 (N, C, side, side) with masks (N, L) → the target's prediction, (N, levels, K) logits for histograms (§6.3)."""

    target: Target

    def __init__(self, channels: int, tokens: int, config: LadmimConfig) -> None:
        super().__init__()
        d, self.target = config.mim_width, TARGETS[config.target](config.layers, config.entries, channels)
        self.embed = nn.Linear(channels, d)
        self.hidden, self.prediction = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.position = nn.Parameter(torch.zeros(1 + tokens, d))
        self.blocks = nn.ModuleList(Block(d, config) for _ in range(config.mim_layers))
        self.norm, self.predict = nn.LayerNorm(d), nn.Linear(d, math.prod(self.target.shape))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in (self.hidden, self.prediction, self.position):
            nn.init.trunc_normal_(parameter, std=0.02)
        for index, block in enumerate(self.blocks, start=1):
            for last in (block.attend.project, block.mlp[-1]):  # type: ignore[union-attr, index]
                last.weight.data /= math.sqrt(2 * index)  # type: ignore[union-attr, operator]

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Predict from the tokens that are not hidden."""
        seen = self.embed(features.flatten(2).transpose(1, 2))
        tokens = torch.where(masks[..., None], self.hidden.to(seen.dtype), seen)
        first = self.prediction.to(seen.dtype).expand(len(tokens), 1, -1)
        x = torch.cat([first, tokens], 1) + self.position
        for block in self.blocks:
            x = block(x)
        predicted = self.predict(self.norm(self.target.asked(x, masks)))
        return self.target.finish(predicted.unflatten(-1, self.target.shape))


class Block(nn.Module):
    """Pre-norm layer with LayerScale: x += γ1 ⊙ attention(norm x); x += γ2 ⊙ mlp(norm x)."""

    def __init__(self, width: int, config: LadmimConfig) -> None:
        super().__init__()
        self.norm_attend, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = Attention(width, config.mim_heads, config.dropout, key_bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale_attend, self.scale_mlp = (nn.Parameter(torch.full((width,), config.layer_scale)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1 + L, d) alike."""
        normed = self.norm_attend(x)
        x = x + self.scale_attend * self.attend(normed, normed, normed)
        return x + self.scale_mlp * self.mlp(self.norm_mlp(x))  # type: ignore[no-any-return]


class MimTask:
    """One step of the second stage, on the frozen result of the first: features and codes of each image are computed once."""

    clip_norm = 1.0

    def __init__(self, networks: Ladmim, images: Images, config: LadmimConfig) -> None:
        self.networks, self.images, self.config = networks, images, config
        self.modules: Mapping[str, nn.Module] = {"mim": networks.mim}
        networks.hvq.eval()
        self.features = Descriptions(networks.describe, images)
        self.codes = networks.level_codes(images)
        networks.measure(self.codes)
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(
            networks.mim.parameters(), config.mim_learning_rate, weight_decay=MIM_WEIGHT_DECAY
        )
        self.schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: warmed_cosine(step / config.mim_steps)
        )
        networks.mim.train()

    def losses(self, step: int) -> dict[str, Tensor]:
        """Distance between prediction and truth, under fresh masks."""
        config, side = self.config, self.networks.side
        self.optimiser.param_groups[0]["weight_decay"] = MIM_WEIGHT_DECAY * half_cosine(step / config.mim_steps)
        features = self.features.batch(step, config.mim_batch)
        drawn = config.draw_masks(np.random.default_rng((config.seed, step)), len(features), side)
        masks = torch.from_numpy(drawn).to(features.device)
        codes = self.codes[self.images.indices(step, config.mim_batch)]
        truth = Truth(self.images.batch(step, config.mim_batch), features, codes)
        with autocast(features.device):
            predicted = self.networks.mim(features, masks)
        return {config.target: self.networks.mim.target.distance(predicted, truth, masks).mean()}

    def after_step(self) -> None:
        """Nothing to average."""


def half_cosine(progress: float) -> float:
    """From 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmed_cosine(progress: float) -> float:
    """Factor on the learning rate: up in a line, then down along a cosine; a hundredth at both ends."""
    if progress < WARM_UP:
        return LOWEST_RATE + (1 - LOWEST_RATE) * progress / WARM_UP
    return LOWEST_RATE + (1 - LOWEST_RATE) * half_cosine((progress - WARM_UP) / (1 - WARM_UP))
