"""Wide ResNet-50-2 and -101-2 up to layer3 (Zagoruyko & Komodakis, BMVC 2016), with weights from a file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from lad_edge.backbones.weights import load_weights

WIDE_RESNETS = {"wide_resnet50_2": (3, 4, 6), "wide_resnet101_2": (3, 4, 23)}  # blocks of layer1 to layer3
EXPANSION, WIDTH = 4, 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]
_NOT_NEEDED = ("layer4.", "fc.")


class Bottleneck(nn.Module):
    """1×1, 3×3 (carries the stride), 1×1, each with batch norm; names follow the weight files."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        changes = stride != 1 or in_channels != out_channels
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
            if changes
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Residual block."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class WideResNet(nn.Module):
    """(N, 3, H, W) RGB normalised with MEAN and STD → maps of layer2 (512 channels, stride 8) and layer3 (1024 channels, stride 16)."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for index, count in enumerate(blocks):
            width, out_channels = WIDTH << index, (WIDTH << index) * EXPANSION // 2
            layers = []
            for block in range(count):
                layers.append(Bottleneck(channels, width, out_channels, 2 if index and block == 0 else 1))
                channels = out_channels
            self.add_module(f"layer{index + 1}", nn.Sequential(*layers))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps at strides 8 and 16."""
        x = functional.relu(self.bn1(self.conv1(image)))
        x = self.layer1(functional.max_pool2d(x, 3, 2, 1))
        stride_8: Tensor = self.layer2(x)
        return [stride_8, self.layer3(stride_8)]


def wide_resnet(name: str, weights: Path) -> WideResNet:
    """The network with ImageNet weights from `weights` (.pth or .safetensors), frozen, in eval mode.

    Raises DataError if the file is missing or its names and shapes do not fit; layer4 and the classifier are ignored.
    """
    network = WideResNet(WIDE_RESNETS[name])
    load_weights(network, weights, name, _NOT_NEEDED)
    return network
