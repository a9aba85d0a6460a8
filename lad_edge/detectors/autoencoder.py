"""The autoencoder of EfficientAD, which sees the whole picture through a 1×1 bottleneck (methods card §2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class AutoencoderSize:
    """Channels of the first two convolutions, of the others, and of the bottleneck between encoder and decoder."""

    stem: int
    hidden: int
    latent: int


# S and M as in the paper. XS halves the convolutions but not the bottleneck: what a part looks like takes as many numbers on a small box.
AUTOENCODER_SIZES = {
    "xs": AutoencoderSize(16, 32, 64),
    "s": AutoencoderSize(32, 64, 64),
    "m": AutoencoderSize(32, 64, 64),
}


class Autoencoder(nn.Module):
    """(N, 3, side, side) → (N, out_channels, side/4 - 8, side/4 - 8).

    `instance_norm` is the DFSC form: a non-affine InstanceNorm before every ReLU, and one more ReLU on the latent vector, without a norm
    there because it is undefined on 1×1 maps (decision D-3).
    """

    def __init__(self, size: AutoencoderSize, out_channels: int, side: int, *, instance_norm: bool) -> None:
        super().__init__()
        stem, hidden = size.stem, size.hidden
        widths = [3, stem, stem, hidden, hidden, hidden]
        encoder: list[nn.Module] = []
        for before, after in pairwise(widths):
            encoder += _activated(nn.Conv2d(before, after, 4, stride=2, padding=1), after, instance_norm)
        encoder.append(nn.Conv2d(hidden, size.latent, 8))
        if instance_norm:
            encoder.append(nn.ReLU())
        self.encoder = nn.Sequential(*encoder)
        self.stages = nn.ModuleList(
            nn.Sequential(*_activated(nn.Conv2d(width, hidden, 4, padding=2), hidden, instance_norm), nn.Dropout(0.2))
            for width in [size.latent, *5 * [hidden]]
        )
        self.sides = (side // 64 - 1, side // 32, side // 16 - 1, side // 8, side // 4 - 1, side // 2 - 1)
        self.out_side = -(-side // 4) - 8
        self.head = nn.Sequential(
            *_activated(nn.Conv2d(hidden, hidden, 3, padding=1), hidden, instance_norm),
            nn.Conv2d(hidden, out_channels, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct the teacher's description from the bottleneck."""
        x = self.encoder(image)
        for side, stage in zip(self.sides, self.stages, strict=True):
            x = stage(_resize(x, side))
        description: Tensor = self.head(_resize(x, self.out_side))
        return description


def _activated(convolution: nn.Conv2d, channels: int, instance_norm: bool) -> list[nn.Module]:
    norm: list[nn.Module] = [nn.InstanceNorm2d(channels)] if instance_norm else []
    return [convolution, *norm, nn.ReLU()]


def _resize(x: Tensor, side: int) -> Tensor:
    # half-pixel bilinear without antialias, also where 128 → 56 shrinks
    return functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
