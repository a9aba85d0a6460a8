"""EfficientNet-b6 up to stride 16 (Tan & Le, ICML 2019), the backbone of the FOD paper, with weights from a file in timm's names.

timm calls it `tf_efficientnet_b6`: TensorFlow's weights want "SAME" padding and an epsilon of 1e-3 (methods card §5.1).
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from lad_edge.backbones.efficientnet_lite import SameConv
from lad_edge.backbones.weights import load_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]
STEM = 56
STAGES = (
    (3, 1, 32, 3),
    (3, 2, 40, 6),
    (5, 2, 72, 6),
    (3, 2, 144, 8),
    (5, 1, 200, 8),
)  # kernel, stride, channels, blocks
EXPANSION, SQUEEZE = 6, 4
STRIDE_8_STAGE = 2
_NOT_NEEDED = ("blocks.5.", "blocks.6.", "conv_head.", "bn2.", "classifier.")


class SqueezeExcite(nn.Module):
    """Weights the channels by what the whole map holds."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce, self.conv_expand = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) alike."""
        weights: Tensor = self.conv_expand(functional.silu(self.conv_reduce(x.mean((2, 3), keepdim=True))))
        return x * weights.sigmoid()


class SeparableBlock(nn.Module):
    """Depthwise, squeeze-excite, pointwise: the blocks of the first stage. Names follow the weight files."""

    def __init__(self, kernel: int, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = SameConv(before, before, kernel, stride, groups=before, bias=False), _norm(before)
        self.se = SqueezeExcite(before, before // SQUEEZE)
        self.conv_pw, self.bn2 = nn.Conv2d(before, after, 1, bias=False), _norm(after)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """Filter, weight, project."""
        y = self.se(functional.silu(self.bn1(self.conv_dw(x))))
        projected: Tensor = self.bn2(self.conv_pw(y))
        return x + projected if self.residual else projected


class InvertedBlock(nn.Module):
    """Expand, depthwise, squeeze-excite, project: all other blocks."""

    def __init__(self, kernel: int, stride: int, before: int, after: int) -> None:
        super().__init__()
        wide = before * EXPANSION
        self.conv_pw, self.bn1 = nn.Conv2d(before, wide, 1, bias=False), _norm(wide)
        self.conv_dw, self.bn2 = SameConv(wide, wide, kernel, stride, groups=wide, bias=False), _norm(wide)
        self.se = SqueezeExcite(wide, before // SQUEEZE)
        self.conv_pwl, self.bn3 = nn.Conv2d(wide, after, 1, bias=False), _norm(after)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """Widen, filter, weight, project."""
        y = functional.silu(self.bn1(self.conv_pw(x)))
        y = self.se(functional.silu(self.bn2(self.conv_dw(y))))
        projected: Tensor = self.bn3(self.conv_pwl(y))
        return x + projected if self.residual else projected


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class EfficientNetB6(nn.Module):
    """(N, 3, H, W) RGB normalised with MEAN and STD → maps of blocks.2 (72 channels, stride 8) and blocks.4 (200 channels, stride 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = SameConv(3, STEM, 3, 2, bias=False), _norm(STEM)
        stages, channels = [], STEM
        for index, (kernel, stride, after, count) in enumerate(STAGES):
            kind = InvertedBlock if index else SeparableBlock
            blocks: list[nn.Module] = []
            for block in range(count):
                blocks.append(kind(kernel, 1 if block else stride, channels, after))
                channels = after
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps at strides 8 and 16."""
        x = functional.silu(self.bn1(self.conv_stem(image)))
        found = []
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index in (STRIDE_8_STAGE, len(STAGES) - 1):
                found.append(x)
        return found


def efficientnet_b6(weights: Path) -> EfficientNetB6:
    """The network with ImageNet weights from `weights` (.pth or .safetensors), frozen, in eval mode. Raises DataError."""
    network = EfficientNetB6()
    load_weights(network, weights, "tf_efficientnet_b6", _NOT_NEEDED)
    return network
