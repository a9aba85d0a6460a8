"""Rewrites that make a network cheaper without changing what it computes; each is proven equal by a test."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def bias_of(layer: nn.Conv2d) -> Tensor:
    """The bias, zeros where there is none."""
    return layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_channels)


def convolution(like: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution with these weights and the geometry of another one."""
    made = nn.Conv2d(weight.shape[1], weight.shape[0], like.kernel_size, like.stride, like.padding)  # type: ignore[arg-type]
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(bias)  # type: ignore[union-attr]
    return made


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy in which every batch norm that is registered directly behind a convolution has gone into its weights."""
    folded = copy.deepcopy(network).eval()
    for parent in folded.modules():
        children = list(parent.named_children())
        for (_, layer), (name, norm) in pairwise(children):
            if isinstance(norm, nn.BatchNorm2d) and isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                layer.weight, layer.bias = fuse_conv_bn_weights(
                    layer.weight,
                    layer.bias,
                    norm.running_mean,  # type: ignore[arg-type]
                    norm.running_var,  # type: ignore[arg-type]
                    norm.eps,
                    norm.weight,
                    norm.bias,
                    transpose=isinstance(layer, nn.ConvTranspose2d),
                )
                setattr(parent, name, nn.Identity())
    return folded


@torch.no_grad()
def as_convolution(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """A transposed convolution of stride 1 as the ordinary one that it is: kernels flipped, inputs and outputs exchanged (§4.2)."""
    if layer.stride != (1, 1) or isinstance(layer.padding, str):
        raise ValueError(f"expected stride 1 and padding in numbers, got {layer.stride} and {layer.padding}")
    pads = [kernel - 1 - pad for kernel, pad in zip(layer.kernel_size, layer.padding, strict=True)]
    made = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=tuple(pads))  # type: ignore[arg-type]
    made.weight.copy_(layer.weight.flip(2, 3).transpose(0, 1))
    made.bias.copy_(layer.bias)  # type: ignore[union-attr, arg-type]
    return made
