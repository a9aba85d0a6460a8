"""Weight files of others → a frozen network: a strict load that says what does not fit."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from lad_edge.errors import DataError


def load_weights(network: nn.Module, weights: Path, name: str, not_needed: tuple[str, ...]) -> None:
    """Fill `network` from `weights` (.pth or .safetensors), freeze it and put it into eval mode.

    Names that begin with one of `not_needed` are ignored. Raises DataError if the file is missing, or its names and shapes do not fit.
    """
    if not weights.is_file():
        raise DataError(f"{weights}: expected the weights of {name}, found nothing; check --weights")
    state = (
        load_file(weights)
        if weights.suffix == ".safetensors"
        else torch.load(weights, map_location="cpu", weights_only=True)
    )
    try:
        needed = {key: value for key, value in state.items() if not key.startswith(not_needed)}
        network.load_state_dict(needed, strict=True)
    except RuntimeError as exc:
        reason = " ".join(str(exc).split())[:400]
        raise DataError(f"{weights}: not the weights of {name} in torchvision's or timm's names: {reason}") from exc
    network.eval().requires_grad_(False)
