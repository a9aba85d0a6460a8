"""FOD: where attention inside a picture and attention to reference features fail to agree (Yao et al., ICCV 2023, methods card §5).

Two transformers, one for each level of a frozen backbone, rebuild the features from the difference of two attentions: among the tokens
of the picture (intra) and from them to reference features of good parts (inter). Gaussian target correlations whose widths are learnt pull
the inter attention of good parts to its own place and push the intra attention away from it. An anomalous token is rebuilt badly and
finds its place in the reference badly; the score is the product of both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.backbones.frozen import backbone
from lad_edge.detectors.batches import Descriptions, Images, autocast, check_side, decay
from lad_edge.detectors.divergence import Correlation, divergence_and_entropy, symmetric_kl
from lad_edge.detectors.references import REFERENCES, nearest_reference, reference_features
from lad_edge.errors import UsageError

LEVELS = ("fine", "coarse")  # strides 8 and 16
MODULATIONS = ("max", "one")


@dataclass(frozen=True)
class FodConfig:
    """The paper's recipe, in the reading of its code (decisions F-1 to F-8)."""

    backbone: str = "efficientnet-lite0"  # the paper: tf_efficientnet_b6, its code: wide_resnet50_2
    side: int = 256
    width_fine: int = 256
    width_coarse: int = 512
    heads: int = 8
    layers: int = 3
    epochs: int = 100
    steps: int = 0  # 0: as many as the epochs hold
    batch: int = 1
    learning_rate: float = 1e-4
    schedule: str = "step"
    decay_from: float = 1.0  # constant
    divergence_weight: float = 0.5  # λ1
    entropy_weight: float = 0.5  # λ2
    reference: str = "mean"  # or nearest, coreset, codebook (Table 15; see references.py)
    reference_pictures: int = 16  # that "nearest" chooses from
    reference_entries: int = 256  # of "coreset" and "codebook"
    i2_residual: bool = False  # LN(intra - inter), or LN(intra - inter + x) as the paper writes (F-3)
    modulation: str = "max"  # the rebuilding error times max(p) - p, or times 1 - p as the paper writes (F-2)
    blur: float = 4.0  # px at the network's input (F-6)
    seed: int = 3407

    def check(self) -> None:
        """Raises UsageError for values out of range."""
        backbone(self.backbone)
        check_side(self.side)
        for name, width in (("width_fine", self.width_fine), ("width_coarse", self.width_coarse)):
            if width % (4 * self.heads):
                raise UsageError(f"{name} {width}: expected a multiple of {4 * self.heads}, four times the heads")
        if self.modulation not in MODULATIONS:
            raise UsageError(f"modulation {self.modulation}: expected one of {', '.join(MODULATIONS)}")
        if self.reference not in REFERENCES:
            raise UsageError(f"reference {self.reference}: expected one of {', '.join(REFERENCES)}")
        for name, count, least in (
            ("layers", self.layers, 1),
            ("reference_pictures", self.reference_pictures, 2),
            ("reference_entries", self.reference_entries, 2),
        ):
            if count < least:
                raise UsageError(f"{name} {count}: expected at least {least}")


class Layer(NamedTuple):
    """Both attentions of one layer."""

    intra: Correlation
    inter: Correlation


class Fod(nn.Module):
    """Backbone, reference features and one network for each level: all that inference needs.

    tokens: normalised images (N, 3, side, side) → (N, L, C) of a level, averaged over 3×3 neighbours (F-6).
    forward: → per level the rebuilding error (N, L) and the divergence D (N, L).
    """

    reference_fine: Tensor
    reference_coarse: Tensor

    def __init__(self, config: FodConfig) -> None:
        super().__init__()
        kind = backbone(config.backbone)
        self.config, self.channels, self.input_mean, self.input_std = config, kind.channels, kind.mean, kind.std
        self.backbone = kind.structure().requires_grad_(False).eval()
        widths, sides = (config.width_fine, config.width_coarse), (config.side // 8, config.side // 16)
        self.levels = nn.ModuleList(
            LevelNetwork(channels, width, side, config)
            for channels, width, side in zip(kind.channels, widths, sides, strict=True)
        )
        for name, channels, side in zip(LEVELS, kind.channels, sides, strict=True):
            pictures = config.reference_pictures if config.reference == "nearest" else 1
            self.register_buffer(f"reference_{name}", torch.zeros(pictures, side * side, channels))

    def load_frozen(self, weights: Path | None) -> None:
        """Put the pretrained weights into the backbone. Raises UsageError and DataError."""
        self.backbone.load_state_dict(backbone(self.config.backbone).pretrained(weights).state_dict())

    @torch.no_grad()
    def tokens(self, image: Tensor, level: int) -> Tensor:
        """Features of one level, in reading order."""
        return to_tokens(self.backbone(image)[level])

    @torch.no_grad()
    def prepare(self, images: Images) -> None:
        """Reference features of the training images. Raises UsageError if there are fewer than they are to be chosen from."""
        config = self.config
        if config.reference == "nearest" and len(images) <= config.reference_pictures:
            raise UsageError(
                f"reference_pictures {config.reference_pictures}: expected fewer than the {len(images)} training images"
            )
        self.backbone.eval()
        count = config.reference_pictures if config.reference == "nearest" else config.reference_entries
        for index, bank in enumerate((self.reference_fine, self.reference_coarse)):
            pictures = (self.tokens(image, index)[0] for image in images.each())
            generator = torch.Generator().manual_seed(config.seed)
            bank.copy_(reference_features(config.reference, pictures, count, generator))

    def bank(self, level: int) -> Tensor:
        """Reference features (R, L, C); more than one picture for "nearest" only."""
        return (self.reference_fine, self.reference_coarse)[level]

    def reference(self, level: int, tokens: Tensor) -> Tensor:
        """What the tokens (N, L, C) of pictures are compared with: (1, L, C) for all of them, or (N, L, C)."""
        bank = self.bank(level)
        return bank if len(bank) == 1 else nearest_reference(tokens, bank, but_itself=self.training)

    def forward(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Rebuilding error and divergence, per level."""
        found = []
        for index, network in enumerate(self.levels):
            tokens = self.tokens(image, index)
            rebuilt, layers = network(tokens, self.reference(index, tokens))
            divergence = torch.stack([symmetric_kl(layer.inter) for layer in layers]).mean(0)
            found.append((rebuilding_error(tokens, rebuilt), divergence))
        return found


def to_tokens(features: Tensor) -> Tensor:
    """(N, C, h, w) → (N, h·w, C), after 3×3 average pooling with zeros counted."""
    return functional.avg_pool2d(features, 3, 1, 1).flatten(2).transpose(1, 2).float()


class LevelNetwork(nn.Module):
    """Tokens (N, L, C) and reference tokens (1 or N, L, C) → rebuilt tokens (N, L, C) and the correlations of each layer (§5.3)."""

    position: Tensor

    def __init__(self, channels: int, width: int, side: int, config: FodConfig) -> None:
        super().__init__()
        self.embed, self.embed_reference = nn.Linear(channels, width), nn.Linear(channels, width)
        self.register_buffer("position", sine_position(side, width), persistent=False)
        self.layers = nn.ModuleList(
            I2Layer(width, config.heads, side, residual=config.i2_residual) for _ in range(config.layers)
        )
        self.norm, self.rebuild = nn.LayerNorm(width), nn.Linear(width, channels)

    def forward(self, tokens: Tensor, reference: Tensor) -> tuple[Tensor, list[Layer]]:
        """Rebuild the tokens from the differences of their two attentions."""
        x = self.embed(tokens) + self.position
        known = self.embed_reference(reference) + self.position
        correlations = []
        for layer in self.layers:
            x, found = layer(x, known)
            correlations.append(found)
        return self.rebuild(self.norm(x)), correlations


class I2Layer(nn.Module):
    """I2Correlation: attention within the picture minus attention to the reference, without output projection (F-4, F-5)."""

    def __init__(self, width: int, heads: int, side: int, *, residual: bool) -> None:
        super().__init__()
        self.heads, self.side, self.residual = heads, side, residual
        self.intra, self.inter = (
            nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")}) for _ in range(2)
        )
        self.intra_sigma, self.inter_sigma = nn.Linear(width, 2 * heads), nn.Linear(width, 2 * heads)
        self.norm, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Layer]:
        """(N, L, d) and (1 or N, L, d) → (N, L, d) and both correlations."""
        within, intra = self._attend(self.intra, self.intra_sigma, x, x)
        across, inter = self._attend(self.inter, self.inter_sigma, x, known)
        difference = within - across + x if self.residual else within - across
        y = self.norm(difference)
        return self.norm_out(y + self.feed_forward(y)), Layer(intra, inter)

    def _attend(self, part: nn.ModuleDict, sigma: nn.Linear, x: Tensor, known: Tensor) -> tuple[Tensor, Correlation]:
        q, k, v = (
            split_heads(part[name](source), self.heads)
            for name, source in (("query", x), ("key", known), ("value", known))
        )
        softmax = torch.softmax((q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).float(), -1)
        rows, columns = target_factors(width_of(sigma(x).float()), self.side)
        return (softmax.to(v.dtype) @ v).transpose(1, 2).flatten(2), Correlation(softmax, rows, columns)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(N, L, d) → (N, heads, L, d / heads)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def width_of(s: Tensor) -> Tensor:
    """σ = 3^(sigmoid(5s) + 1e-5) - 1, between 1.1e-5 and 2 cells."""
    return 3 ** (torch.sigmoid(5 * s) + 1e-5) - 1


def target_factors(sigma: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Normalised Gaussians along rows and columns around each token's own place: σ (N, L, 2·heads) → twice (N, heads, L, side) (F-1).

    σ holds per head the width along rows, then along columns.
    """
    place = torch.arange(side, device=sigma.device, dtype=sigma.dtype)
    squared = (place[:, None] - place[None, :]).square()  # (own place, other place)
    token = torch.arange(side * side, device=sigma.device)
    across, along = squared[token // side], squared[token % side]  # (L, side)
    sigma = sigma.reshape(*sigma.shape[:2], -1, 2).permute(3, 0, 2, 1)[..., None]  # (2, N, heads, L, 1)
    return torch.softmax(-across / (2 * sigma[0].square()), -1), torch.softmax(-along / (2 * sigma[1].square()), -1)


def sine_position(side: int, width: int) -> Tensor:
    """(side², width): the first half of the channels codes the column, the second the row; even = sine, odd = cosine."""
    half = width // 2
    frequencies = 1e4 ** (-2 * torch.arange(half // 2, dtype=torch.float64) / half)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    code = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)  # (side, half)
    token = torch.arange(side * side)
    return torch.cat([code[token % side], code[token // side]], 1).float()


def rebuilding_error(tokens: Tensor, rebuilt: Tensor) -> Tensor:
    """Mean square over channels plus the cosine distance: (N, L, C) → (N, L) (F-6)."""
    return (tokens - rebuilt).square().mean(-1) + 1 - functional.cosine_similarity(tokens, rebuilt, dim=-1)


def modulated(error: Tensor, divergence: Tensor, modulation: str) -> Tensor:
    """The error times how badly a token finds its place, by softmax over the picture's tokens: (N, L) alike (F-2)."""
    p = torch.softmax(-divergence, -1)
    return error * ((p.amax(-1, keepdim=True) if modulation == "max" else 1.0) - p)


class FodTask:
    """One training step: both phases of the paper in one backward.

    The paper accumulates the gradients of L1, where the targets move, and of L2, where the correlations move, and then steps once. In
    L1 + L2 each divergence appears twice, with opposite signs, each time with one side held: that is the divergence itself with the
    gradient of one side reversed, so it is computed once. L_rec appears twice.
    """

    def __init__(self, networks: Fod, images: Images, config: FodConfig) -> None:
        self.networks, self.images, self.config = networks, images, config
        self.modules: Mapping[str, nn.Module] = {"networks": networks}
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(networks.levels.parameters(), config.learning_rate)
        self.schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, decay(config)
        )
        self.tokens = [Descriptions(partial(networks.tokens, level=level), images) for level in range(len(LEVELS))]
        networks.train()
        networks.backbone.eval()

    def losses(self, step: int) -> dict[str, Tensor]:
        """The terms of both levels."""
        terms: dict[str, Tensor] = {}
        for index, (name, network) in enumerate(zip(LEVELS, self.networks.levels, strict=True)):
            tokens = self.tokens[index].batch(step, self.config.batch)
            with autocast(tokens.device):
                rebuilt, layers = network(tokens, self.networks.reference(index, tokens))
            own = objective(tokens, rebuilt.float(), layers, self.config)
            terms |= {f"{term}_{name}": value for term, value in own.items()}
        return terms

    def after_step(self) -> None:
        """Nothing to average."""


def objective(tokens: Tensor, rebuilt: Tensor, layers: list[Layer], config: FodConfig) -> dict[str, Tensor]:
    """L1 + L2 (§5.5): reconstruction, divergences of both branches, entropy; mean over layers, heads and tokens."""
    intra = [divergence_and_entropy(layer.intra, pulled="target") for layer in layers]
    inter = [divergence_and_entropy(layer.inter, pulled="softmax") for layer in layers]
    spread = [across[1] - within[1] for within, across in zip(intra, inter, strict=True)]
    return {
        "reconstruction": 2 * rebuilding_error(tokens, rebuilt).mean(),
        "intra": config.divergence_weight * torch.stack([divergence for divergence, _ in intra]).mean(),
        "inter": config.divergence_weight * torch.stack([divergence for divergence, _ in inter]).mean(),
        "entropy": config.entropy_weight * torch.stack(spread).mean(),
    }
