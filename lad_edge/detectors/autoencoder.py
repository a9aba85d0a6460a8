"""The autoencoder of EfficientAD, which sees the whole picture through a 1×1 bottleneck (methods card §2.3), and its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

Norm = Callable[[int], nn.Module]  # channels → the normalisation before a ReLU; nn.Identity for none


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

    `instance_norm` is the DFSC form: a non-affine InstanceNorm before every ReLU, and one more ReLU on the bottleneck of the paper's
    decoder, without a norm there because it is undefined on 1×1 maps (decision D-3).
    """

    def __init__(self, size: AutoencoderSize, out_channels: int, side: int, *, instance_norm: bool) -> None:
        super().__init__()
        norm = nn.InstanceNorm2d if instance_norm else nn.Identity
        out_side = -(-side // 4) - 8
        kernel = side // 32 if size.projected else 8
        self.encoder = nn.Sequential(
            *halvings((3, *size.encoder), norm), nn.Conv2d(size.encoder[-1], size.latent, kernel)
        )
        self.decoder = (
            ProjectedDecoder(size.latent, size.decoder, out_channels, out_side, norm)
            if size.projected
            else SteppedDecoder(
                (size.latent, *size.decoder, out_channels),
                (side // 64 - 1, side // 32, side // 16 - 1, side // 8, side // 4 - 1, side // 2 - 1, out_side),
                norm,
                start=nn.ReLU() if instance_norm else nn.Identity(),
                dropout=0.2,
            )
        )

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct the teacher's description from the bottleneck."""
        description: Tensor = self.decoder(self.encoder(image))
        return description


def halvings(widths: Sequence[int], norm: Norm) -> list[nn.Module]:
    """The encoder that EfficientAD and ULSAD share: 4×4 convolutions of stride 2."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += activated(nn.Conv2d(before, after, 4, stride=2, padding=1), norm)
    return layers


class SteppedDecoder(nn.Module):
    """The papers' decoder: enlarge, convolve and drop out, several times; then the size of the description.

    widths: channels of the bottleneck, of all stages, and of the description; sides: to which each stage enlarges, the description last.
    """

    def __init__(
        self, widths: tuple[int, ...], sides: Sequence[int], norm: Norm, *, start: nn.Module, dropout: float
    ) -> None:
        super().__init__()
        latent, hidden, out_channels = widths
        *self.sides, self.out_side = sides
        self.start = start
        self.stages = nn.ModuleList(
            nn.Sequential(*activated(nn.Conv2d(width, hidden, 4, padding=2), norm), nn.Dropout(dropout))
            for width in [latent, *(len(self.sides) - 1) * [hidden]]
        )
        self.head = nn.Sequential(
            *activated(nn.Conv2d(hidden, hidden, 3, padding=1), norm), nn.Conv2d(hidden, out_channels, 3, padding=1)
        )

    def forward(self, latent: Tensor) -> Tensor:
        """(N, latent, 1, 1) → the description."""
        x = self.start(latent)
        for side, stage in zip(self.sides, self.stages, strict=True):
            x = stage(_resize(x, side))
        description: Tensor = self.head(_resize(x, self.out_side))
        return description


class ProjectedDecoder(nn.Module):
    """Our decoder for short schedules: one linear layer lays the bottleneck out on a quarter of the grid, two doublings follow.

    Every cell of the layout has weights of its own, so position is given, where the stepped decoder must learn it from zero padding.
    Trained alone on juice_bottle's descriptions, it explains 90 % of their variance after 800 steps of 8 images; the stepped one 87 %
    after twice as many.
    """

    def __init__(self, latent: int, widths: Sequence[int], out_channels: int, out_side: int, norm: Norm) -> None:
        super().__init__()
        self.sides = (out_side // 2, out_side)
        self.layout = (widths[0], out_side // 4, out_side // 4)
        self.project = nn.Linear(latent, widths[0] * (out_side // 4) ** 2)
        self.stages = nn.ModuleList(
            nn.Sequential(*activated(nn.Conv2d(before, after, 3, padding=1), norm))
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


def activated(convolution: nn.Conv2d, norm: Norm) -> list[nn.Module]:
    """The convolution, its norm, ReLU."""
    normed = norm(convolution.out_channels)
    return [convolution, *([] if isinstance(normed, nn.Identity) else [normed]), nn.ReLU()]


def _resize(x: Tensor, side: int) -> Tensor:
    # half-pixel bilinear without antialias, also where 128 → 56 shrinks
    return functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
