"""Patch description networks (PDN): the teacher and student of EfficientAD (Batzner et al., WACV 2024, methods card §2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lad_edge.errors import UsageError


@dataclass(frozen=True)
class PdnSize:
    """Width of a PDN: hidden channels of the first and of the later layers, and channels of the description."""

    stem: int
    hidden: int
    out_channels: int
    deep: bool = False  # the M network: two 1×1 convolutions more


# S and M as in the paper. XS is ours, for boxes with a CPU only: a quarter of the width of S and a third of its description.
PDN_SIZES = {
    "xs": PdnSize(stem=32, hidden=64, out_channels=128),
    "s": PdnSize(stem=128, hidden=256, out_channels=384),
    "m": PdnSize(stem=256, hidden=512, out_channels=384, deep=True),
}


class Pdn(nn.Module):
    """(N, 3, H, W) → (N, C, h, w) with a receptive field of 33 px and stride 4; 256 → 56 without padding (decision E-1).

    `padded` is used only while the teacher is distilled, 256 → 64: convolutions pad 3, 3, 1, 0 and pools pad 1, zeros counted.
    """

    def __init__(self, size: PdnSize, out_channels: int | None = None, *, padded: bool = False) -> None:
        super().__init__()
        out = size.out_channels if out_channels is None else out_channels
        pad = 1 if padded else 0
        trunk: list[nn.Module] = [
            nn.Conv2d(3, size.stem, 4, padding=3 * pad),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2, 2, padding=pad),
            nn.Conv2d(size.stem, size.hidden, 4, padding=3 * pad),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2, 2, padding=pad),
        ]
        if size.deep:
            trunk += [nn.Conv2d(size.hidden, size.hidden, 1), nn.ReLU(inplace=True)]
        trunk += [nn.Conv2d(size.hidden, size.hidden, 3, padding=pad), nn.ReLU(inplace=True)]
        if size.deep:
            trunk += [nn.Conv2d(size.hidden, out, 4), nn.ReLU(inplace=True)]
        self.trunk = nn.Sequential(*trunk)
        self.head = nn.Conv2d(out, out, 1) if size.deep else nn.Conv2d(size.hidden, out, 4)

    def forward(self, image: Tensor) -> Tensor:
        """Describe every 33×33 patch."""
        description: Tensor = self.head(self.trunk(image))
        return description


def load_teacher(teacher: Pdn, size: str, weights: Path | None) -> None:
    """Put the weights of `train-teacher` into `teacher`. Raises UsageError if there are none or they do not fit."""
    if weights is None or not weights.is_file():
        raise UsageError(
            f"{weights}: no teacher of size {size} there; "
            f"make one with 'lad-edge train-teacher --size {size}' and pass --teacher"
        )
    try:
        teacher.load_state_dict({key: value.float() for key, value in load_file(weights).items()}, strict=True)
    except (RuntimeError, SafetensorError) as exc:
        reason = str(exc).splitlines()[-1].strip()
        raise UsageError(f"{weights}: not a PDN teacher of size {size}: {reason}") from exc


def description_side(side: int) -> int:
    """Side of the description of a square image of `side` pixels: 256 → 56, 224 → 48, 512 → 120 (methods card §2.2)."""
    return ((side - 3) // 2 - 3) // 2 - 5
