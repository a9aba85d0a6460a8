"""The autoencoder of EfficientAD, which sees the whole picture through a 1×1 bottleneck (methods card §2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class AutoencoderSize:
    """Channels of the encoder's five convolutions, of the bottleneck and of the decoder.

    `projected` chooses the decoder: False is the paper's, with `decoder` channels in all six stages; True is the one of XS.
    """

    encoder: tuple[int, int, int, int, int]
    latent: int
    decoder: tuple[int, ...]
    projected: bool = False


# S and M as in the paper. XS has a decoder of its own: the paper's needs tens of thousands of steps to learn where things are.
AUTOENCODER_SIZES = {
    "xs": AutoencoderSize((16, 16, 32, 32, 32), 64, (32, 64, 64), projected=True),
    "s": AutoencoderSize((32, 32, 64, 64, 64), 64, (64,)),
    "m": AutoencoderSize((32, 32, 64, 64, 64), 64, (64,)),
}


class Autoencoder(nn.Module):
    """(N, 3, side, side) → (N, out_channels, side/4 - 8, side/4 - 8).

    `instance_norm` is the DFSC form: a non-affine InstanceNorm before every ReLU.
    """

    def __init__(self, size: AutoencoderSize, out_channels: int, side: int, *, instance_norm: bool) -> None:
        super().__init__()
        encoder: list[nn.Module] = []
        for before, after in pairwise((3, *size.encoder)):
            encoder += _activated(nn.Conv2d(before, after, 4, stride=2, padding=1), after, instance_norm)
        kernel = side // 32 if size.projected else 8
        encoder.append(nn.Conv2d(size.encoder[-1], size.latent, kernel))
        self.encoder = nn.Sequential(*encoder)
        decoder = ProjectedDecoder if size.projected else SteppedDecoder
        self.decoder = decoder(size.latent, size.decoder, out_channels, side, instance_norm)

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct the teacher's description from the bottleneck."""
        description: Tensor = self.decoder(self.encoder(image))
        return description


class SteppedDecoder(nn.Module):
    """The paper's decoder: six times enlarge, convolve, drop out; then the size of the description.

    With `instance_norm` (DFSC) one more ReLU comes first, without a norm there because it is undefined on 1×1 maps (decision D-3).
    """

    def __init__(self, latent: int, widths: Sequence[int], out_channels: int, side: int, instance_norm: bool) -> None:
        super().__init__()
        (hidden,) = widths
        self.start = nn.ReLU() if instance_norm else nn.Identity()
        self.stages = nn.ModuleList(
            nn.Sequential(*_activated(nn.Conv2d(width, hidden, 4, padding=2), hidden, instance_norm), nn.Dropout(0.2))
            for width in [latent, *5 * [hidden]]
        )
        self.sides = (side // 64 - 1, side // 32, side // 16 - 1, side // 8, side // 4 - 1, side // 2 - 1)
        self.out_side = -(-side // 4) - 8
        self.head = nn.Sequential(
            *_activated(nn.Conv2d(hidden, hidden, 3, padding=1), hidden, instance_norm),
            nn.Conv2d(hidden, out_channels, 3, padding=1),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """(N, latent, 1, 1) → the description."""
        x = self.start(latent)
        for side, stage in zip(self.sides, self.stages, strict=True):
            x = stage(_resize(x, side))
        description: Tensor = self.head(_resize(x, self.out_side))
        return description


class ProjectedDecoder(nn.Module):
    """Our decoder for XS: one linear layer lays the bottleneck out on a quarter of the description's grid, two doublings follow.

    Every cell of the layout has weights of its own, so position is given, where the stepped decoder must learn it from zero padding.
    On juice_bottle it explains 90 % of the teacher's variance after 800 steps of 8 images; the stepped one 87 % after twice as many.
    """

    def __init__(self, latent: int, widths: Sequence[int], out_channels: int, side: int, instance_norm: bool) -> None:
        super().__init__()
        self.sides = ((side // 4 - 8) // 2, side // 4 - 8)
        self.layout = (widths[0], self.sides[0] // 2, self.sides[0] // 2)
        self.project = nn.Linear(latent, widths[0] * (self.sides[0] // 2) ** 2)
        self.stages = nn.ModuleList(
            nn.Sequential(*_activated(nn.Conv2d(before, after, 3, padding=1), after, instance_norm))
            for before, after in pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """(N, latent, 1, 1) → the description."""
        x = self.project(latent.flatten(1)).unflatten(1, self.layout)
        for side, stage in zip(self.sides, self.stages, strict=True):
            x = stage(_resize(x, side))
        description: Tensor = self.head(x)
        return description


def _activated(convolution: nn.Conv2d, channels: int, instance_norm: bool) -> list[nn.Module]:
    norm: list[nn.Module] = [nn.InstanceNorm2d(channels)] if instance_norm else []
    return [convolution, *norm, nn.ReLU()]


def _resize(x: Tensor, side: int) -> Tensor:
    # half-pixel bilinear without antialias, also where 128 → 56 shrinks
    return functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
