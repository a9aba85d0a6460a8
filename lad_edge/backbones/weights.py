"""Weight files of others → a frozen network: a strict load that says what does not fit."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lad_edge.errors import DataError


def load_weights(network: nn.Module, weights: Path, name: str, not_needed: tuple[str, ...]) -> None:
    """Fill `network` from `weights` (.pth or .safetensors), freeze it and put it into eval mode.

    Names that begin with one of `not_needed` are ignored. Raises DataError if the file is missing, cannot be read without running
    code that it brings, or its names and shapes do not fit.
    """
    state = _read(weights, name)
    try:
        needed = {key: value for key, value in state.items() if not key.startswith(not_needed)}
        network.load_state_dict(needed, strict=True)
    except RuntimeError as exc:
        reason = " ".join(str(exc).split())[:400]
        raise DataError(f"{weights}: not the weights of {name} in torchvision's or timm's names: {reason}") from exc
    network.eval().requires_grad_(False)


def _read(weights: Path, name: str) -> dict[str, Tensor]:
    if not weights.is_file():
        raise DataError(f"{weights}: expected the weights of {name}, found nothing; check --weights")
    try:
        if weights.suffix == ".safetensors":
            return load_file(weights)
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError) as exc:
        raise DataError(
            f"{weights}: expected weights as .pth or .safetensors, found a file that is damaged, or that loads only by running "
            f"code that it brings ({type(exc).__name__}); get it again from its publisher"
        ) from exc
    if not (isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())):
        raise DataError(
            f"{weights}: expected a dictionary of tensors, found other things in it; store the state_dict alone"
        )
    return state
