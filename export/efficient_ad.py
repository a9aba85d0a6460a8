"""The graph of EfficientAD and DFSC: teacher, student and autoencoder folded into one network that returns two maps.

Foldings, each exact (methods card §2.7):
* the teacher's standardisation goes into its last convolution, which has no padding;
* T̂ - S₁ is one convolution over the hidden maps of teacher and student, with weights [W_T/σ | -W_S1]: the two descriptions are never
  written to memory, and with reduced precision the difference is rounded, not its operands;
* the first convolutions hold their weights in two parts, each a bfloat16 number. They see flat colour, where the errors of rounded
  weights add up to a shift of the whole surface: on juice_bottle the well trained student differs from the teacher by 0.035 in the
  mean, and rounding these weights alone adds 0.006, all other roundings together 0.0002. It costs 2 % of the time.

The first convolutions of teacher and student see the same picture and could be one; its halves then have to be copied apart, which on
a CPU costs more than it saves (OpenVINO bf16, size S, 2 threads: 95 ms against 83 ms), so they stay two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lad_edge.export.exporter import Exported, Raw, high_levels, trace
from lad_edge.export.folding import bias_of, convolution
from torch import Tensor, nn

from lad_edge.backbones.pdn import description_side
from lad_edge.detectors.efficient_ad import EfficientAd
from lad_edge.kernels import reference
from lad_edge.scoring.base import Normalisation, affine
from lad_edge.scoring.efficient_ad import GRAPH

BORDER_CELLS = 4


class FoldedEfficientAd(nn.Module):
    """Normalised image (N, 3, side, side) → raw maps (N, 2, h, w), equal to `EfficientAd.forward`."""

    def __init__(self, networks: EfficientAd) -> None:
        super().__init__()
        teacher, student = networks.teacher, networks.student
        self.teacher_trunk, self.student_trunk = first_in_two_parts(teacher.trunk), first_in_two_parts(student.trunk)
        standardised = fold_standardisation(teacher.head, networks.mean, networks.std)
        imitates_teacher, imitates_autoencoder = split_outputs(student.head, networks.channels)
        self.difference = stack_inputs(standardised, negate(imitates_teacher))
        self.expectation = imitates_autoencoder
        self.autoencoder = networks.autoencoder

    def forward(self, image: Tensor) -> Tensor:
        """Mean squares over channels: structural first, logical second."""
        hidden_teacher, hidden_student = self.teacher_trunk(image), self.student_trunk(image)
        structural = self.difference(torch.cat([hidden_teacher, hidden_student], 1))
        logical = self.autoencoder(image) - self.expectation(hidden_student)
        return torch.stack([structural.square().mean(1), logical.square().mean(1)], 1)


class TwoPartConvolution(nn.Module):
    """layer(x) with weights high + low over [x, x]: exact in float32, and a bfloat16 engine keeps 16 bits of them instead of 8."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        high = layer.weight.bfloat16().float()
        self.layer = convolution(layer, torch.cat([high, layer.weight - high], 1), bias_of(layer))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), as the layer that it stands for."""
        convolved: Tensor = self.layer(torch.cat([x, x], 1))
        return convolved


def first_in_two_parts(trunk: nn.Sequential) -> nn.Sequential:
    """The trunk of a PDN with its first convolution held in two parts."""
    first, *others = trunk.children()
    assert isinstance(first, nn.Conv2d)  # noqa: S101 - every PDN begins so
    return nn.Sequential(TwoPartConvolution(first), *others)


def fold(networks: EfficientAd) -> FoldedEfficientAd:
    """The network to export; works on copies, the given networks stay as they are."""
    return FoldedEfficientAd(networks).eval().requires_grad_(False)


def fold_standardisation(layer: nn.Conv2d, mean: Tensor, std: Tensor) -> nn.Conv2d:
    """(layer(x) - mean) / std as one convolution; mean and std are (C, 1, 1)."""
    mean, std = mean.double(), std.double()
    weight = layer.weight.double() / std[..., None]
    bias = (bias_of(layer).double() - mean.flatten()) / std.flatten()
    return convolution(layer, weight.float(), bias.float())


def negate(layer: nn.Conv2d) -> nn.Conv2d:
    """-layer(x)."""
    return convolution(layer, -layer.weight, -bias_of(layer))


def split_outputs(layer: nn.Conv2d, channels: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The first `channels` outputs and the others, as two convolutions."""
    weight, bias = layer.weight, bias_of(layer)
    return convolution(layer, weight[:channels], bias[:channels]), convolution(
        layer, weight[channels:], bias[channels:]
    )


def stack_inputs(a: nn.Conv2d, b: nn.Conv2d) -> nn.Conv2d:
    """a(x) + b(y) as one convolution over [x, y]."""
    return convolution(a, torch.cat([a.weight, b.weight], 1), bias_of(a) + bias_of(b))


def export(networks: EfficientAd, config: Any, border_mode: str) -> Exported:
    """One graph with two maps, of 56 cells where 64 would cover the picture: PDNs without padding lack four on each side (E-1)."""
    graph = trace(fold(networks), GRAPH, config.side, ["maps"])
    parameters = {
        "border": BORDER_CELLS,
        "border_mode": border_mode,
        "maps_side": description_side(config.side),
        "sigmoid": config.sigmoid,
    }
    return Exported({GRAPH: graph}, parameters)


def branches(_parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Teacher against student, and autoencoder against student."""
    return ("structural", "logical")


def normalise(raw: Raw, _size: tuple[int, int], _parameters: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Quantiles of the raw maps (methods card §2.6)."""
    return high_levels(raw)


def answer(
    networks: EfficientAd, pixels: Tensor, normalisation: Normalisation, parameters: Mapping[str, Any]
) -> tuple[float, Raw]:
    """The unfolded networks and the numpy `fuse`, or deviations by place in float64."""
    raw = networks(pixels)[0].numpy()
    named = dict(zip(branches(parameters), raw, strict=True))
    (scale_s, offset_s), (scale_l, offset_l) = (affine(normalisation[branch]) for branch in named)
    scale, tail = (scale_s, scale_l), {key: parameters[key] for key in ("border", "border_mode")}
    size = (pixels.shape[2], pixels.shape[3])
    places = normalisation.weighted_places(scale)
    if places is not None:
        return reference.fuse_places(*raw, places=places, size=size, **tail)[0].score, named
    offset, sigmoid = (offset_s, offset_l), bool(parameters["sigmoid"])
    fused, _ = reference.fuse(*raw, scale=scale, offset=offset, sigmoid=sigmoid, size=size, **tail)
    return fused.score, named
