"""ULSAD: unified logical and structural anomaly detection by reconstructing frozen features twice (methods card §4).

A network that sees neighbourhoods reconstructs the features of a frozen backbone: where it fails, a part is structurally anomalous.
An autoencoder that sees the whole picture through a bottleneck predicts the same features; the first network learns to imitate it, and
where the two differ, a part is logically anomalous. The local branch alone is DFR (Yang et al., 2020) with a cosine term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.backbones.frozen import backbone
from lad_edge.detectors.autoencoder import ProjectedDecoder, SteppedDecoder, activated, halvings
from lad_edge.detectors.batches import Descriptions, Images, autocast, channel_statistics, check_side, decay
from lad_edge.errors import UsageError

DESCRIPTION_CHANNELS = 384  # more than that are averaged in groups of neighbours (decision U-8)
GLOBAL_LOSSES = ("attention", "distance", "none")
DECODERS = ("stepped", "projected")


@dataclass(frozen=True)
class UlsadConfig:
    """The paper's recipe: Adam at a constant rate, 200 epochs, here as steps of `batch` images."""

    backbone: str = "efficientnet-lite0"  # the paper has wide_resnet50_2, whose weights do not come by pip
    side: int = 256
    epochs: int = 200
    steps: int = 0  # 0: as many as the epochs hold
    batch: int = 8
    learning_rate: float = 2e-4
    weight_decay: float = 2e-5
    schedule: str = "step"
    decay_from: float = 1.0  # the card knows no milestones
    local_weight: float = 0.5  # λ_l, of the cosine distance
    global_weight: float = 0.5  # λ_g
    global_loss: str = "attention"  # L_pg: between attended features, plain features, or left out
    consistency: bool = True  # L_lg: the first network imitates the autoencoder
    local_only: bool = False  # DFR with the cosine term
    frn_out_act: str = "relu"  # the reconstruction's last activation: "relu" as published, or "identity" (decision U-3)
    decoder: str = "stepped"  # of the autoencoder: as published, or "projected" for short schedules
    blur: float = 4.0  # px at the network's input: Gaussian on the maps, 0 for none (decision U-7)
    seed: int = 42

    def check(self) -> None:
        """Raises UsageError for values out of range."""
        backbone(self.backbone)
        check_side(self.side)
        if self.batch < 2:
            raise UsageError(f"--batch {self.batch}: ulsad needs at least 2, for its batch norm over 1×1 maps")
        for name, known in (
            ("global_loss", GLOBAL_LOSSES),
            ("decoder", DECODERS),
            ("frn_out_act", ("relu", "identity")),
        ):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)}: expected one of {', '.join(known)}")
        if self.local_only and self.consistency:
            raise UsageError("local_only leaves nothing to imitate: set consistency=false too")
        if not self.local_only and not self.consistency and self.global_loss == "none":
            raise UsageError("consistency=false and global_loss=none train no autoencoder: set local_only=true instead")


class Ulsad(nn.Module):
    """Backbone with its channel statistics, reconstruction network and autoencoder: all that inference needs.

    describe: normalised images (N, 3, side, side) → U (N, c, side/8, side/8).
    forward: → raw maps (N, 2, side/8, side/8), local and global; (N, 1, …) without the autoencoder.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: UlsadConfig) -> None:
        super().__init__()
        kind = backbone(config.backbone)
        self.config, self.input_mean, self.input_std = config, kind.mean, kind.std
        self.backbone = kind.structure().requires_grad_(False).eval()
        self.group = max(1, round(sum(kind.channels) / DESCRIPTION_CHANNELS))
        self.channels = sum(kind.channels) // self.group
        self.reconstruction = FeatureReconstruction(self.channels, config.frn_out_act)
        self.autoencoder = (
            None if config.local_only else GlobalAutoencoder(self.channels, config.side, config.decoder == "projected")
        )
        self.register_buffer("mean", torch.zeros(self.channels, 1, 1))
        self.register_buffer("std", torch.ones(self.channels, 1, 1))

    @torch.no_grad()
    def aggregate(self, image: Tensor) -> Tensor:
        """Both levels of the backbone as one map; the coarse one is averaged before it is enlarged, which is the same and cheaper."""
        fine, coarse = (group_mean(level, self.group) for level in self.backbone(image))
        enlarged = functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, enlarged], 1).float()

    @torch.no_grad()
    def describe(self, image: Tensor) -> Tensor:
        """The aggregated features U, standardised per channel."""
        return (self.aggregate(image) - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        """Raw anomaly maps."""
        described = self.describe(image)
        local, imitated = self.reconstruction(described).chunk(2, 1)
        maps = [distance(local, described, self.config.local_weight)]
        if self.autoencoder is not None:
            maps.append(distance(imitated, self.autoencoder(image), self.config.global_weight))
        return torch.stack(maps, 1)

    def load_frozen(self, weights: Path | None) -> None:
        """Put the pretrained weights into the backbone. Raises UsageError and DataError."""
        self.backbone.load_state_dict(backbone(self.config.backbone).pretrained(weights).state_dict())

    def prepare(self, images: Images) -> None:
        """Measure the features of the training images."""
        self.backbone.eval()
        mean, std = channel_statistics(self.aggregate, images)
        self.mean.copy_(mean)
        self.std.copy_(std)


def group_mean(x: Tensor, group: int) -> Tensor:
    """(N, C, H, W) → (N, C / group, H, W): mean of neighbouring channels."""
    return x if group == 1 else x.reshape(len(x), -1, group, *x.shape[2:]).mean(2)


def distance(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """d_λ: mean square over channels plus λ times the cosine distance, per position: (N, C, H, W) → (N, H, W)."""
    return (a - b).square().mean(1) + weight * (1 - functional.cosine_similarity(a, b, dim=1))


class FeatureReconstruction(nn.Module):
    """The feature reconstruction network ψ: (N, c, h, w) → (N, 2c, h, w), Ũ' for the local branch and Ũ'' for the global one (§4.2)."""

    def __init__(self, channels: int, out_act: str) -> None:
        super().__init__()
        c = channels
        self.layers = nn.Sequential(
            *_normed(nn.Conv2d(c, 2 * c, 3, 2, 1)),
            nn.ReLU(),
            *_normed(nn.Conv2d(2 * c, 4 * c, 3, 2, 1)),
            nn.ReLU(),
            *_normed(nn.Conv2d(4 * c, 4 * c, 3, 1, 1)),  # signed (decision U-2)
            *_normed(nn.ConvTranspose2d(4 * c, 2 * c, 4, 2, 1)),
            nn.ReLU(),
            *_normed(nn.ConvTranspose2d(2 * c, c, 4, 2, 1)),
            nn.ReLU(),
            *_normed(nn.ConvTranspose2d(c, 2 * c, 5, 1, 2)),  # decision U-1
            nn.ReLU() if out_act == "relu" else nn.Identity(),
        )
        for layer in self.layers:
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.xavier_uniform_(layer.weight, nn.init.calculate_gain("leaky_relu"))

    def forward(self, described: Tensor) -> Tensor:
        """Reconstruct the description twice."""
        reconstructed: Tensor = self.layers(described)
        return reconstructed


def _normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels)]


class GlobalAutoencoder(nn.Module):
    """The global autoencoder φ: (N, 3, side, side) → Û (N, c, side/8, side/8), with non-affine batch norms (§4.3, U-4, U-5)."""

    def __init__(self, channels: int, side: int, projected: bool) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=1e-4, affine=False)
        widths, out_side = (3, 32, 32, 64, 64, 64), side // 8
        self.encoder = nn.Sequential(
            *halvings(widths, norm), *activated(nn.Conv2d(64, 64, side // 32 if projected else 8), norm)
        )
        sides = (side // 64 - 1, side // 32, side // 16 - 1, side // 8 - 1, side // 4 - 1, out_side)
        self.decoder = (
            ProjectedDecoder(64, (32, 64, 64), channels, out_side, norm)
            if projected
            else SteppedDecoder((64, 64, channels), sides, norm, start=nn.Identity(), dropout=0.0)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Predict the description from the bottleneck."""
        description: Tensor = self.decoder(self.encoder(image))
        return description


class UlsadTask:
    """One training step: L = L_pl + L_pg + L_lg (methods card §4.4)."""

    def __init__(self, networks: Ulsad, images: Images, config: UlsadConfig) -> None:
        self.networks, self.images, self.config = networks, images, config
        self.modules: Mapping[str, nn.Module] = {"networks": networks}
        trained = [p for p in networks.parameters() if p.requires_grad]
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(
            trained, config.learning_rate, weight_decay=config.weight_decay
        )
        self.schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, decay(config)
        )
        self.descriptions = Descriptions(networks.describe, images)
        networks.train()
        networks.backbone.eval()

    def losses(self, step: int) -> dict[str, Tensor]:
        """L_pl, and with the autoencoder L_pg and L_lg; gradients of L_lg flow into both networks."""
        config, networks = self.config, self.networks
        described = self.descriptions.batch(step, config.batch)
        with autocast(described.device):
            local, imitated = networks.reconstruction(described).float().chunk(2, 1)
        terms = {"local": distance(local, described, config.local_weight).mean()}
        if networks.autoencoder is None:
            return terms
        with autocast(described.device):
            predicted = networks.autoencoder(self.images.batch(step, config.batch)).float()
        if config.global_loss != "none":
            terms["global"] = self._global(predicted, described)
        if config.consistency:
            terms["consistency"] = distance(imitated, predicted, config.global_weight).mean()
        return terms

    def _global(self, predicted: Tensor, described: Tensor) -> Tensor:
        """L_pg: the autoencoder's features must attend to the true ones as the true ones attend to themselves."""
        if self.config.global_loss == "attention":
            predicted, described = attend(predicted, described), attend(described, described)
        return distance(predicted, described, self.config.global_weight).mean()

    def after_step(self) -> None:
        """Nothing to average."""


def attend(queries: Tensor, values: Tensor) -> Tensor:
    """Each position of `queries` becomes a mixture of `values`, by softmax of q·v/√c over the positions: (N, c, H, W) alike (§4.4)."""
    q, v = (x.flatten(2).transpose(1, 2) for x in (queries, values))
    mixed: Tensor = functional.scaled_dot_product_attention(q, v, v)
    return mixed.transpose(1, 2).reshape(queries.shape)
