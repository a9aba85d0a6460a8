"""Checkpoints as safetensors: modules, optimiser state and the step, written atomically; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lad_edge.errors import DataError


def save_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, meta: Mapping[str, Any]
) -> None:
    """Write modules and optimiser under `path`; an interrupted write leaves the previous file as it was."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    tensors |= _optimiser_tensors(optimiser)
    save_tensors(path, tensors, meta)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata to a safetensors file: temporary file, fsync, rename."""
    temporary = path.with_suffix(".tmp")
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(contiguous, temporary, metadata={"lad_edge": json.dumps(dict(meta), sort_keys=True)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file written by `save_tensors`. Raises DataError if it is missing, damaged or foreign."""
    if not path.is_file():
        raise DataError(f"{path}: expected a weight file written by lad-edge, found nothing; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})["lad_edge"])
            return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118 (safe_open is no dict)
    except (SafetensorError, KeyError, ValueError) as exc:
        raise DataError(
            f"{path}: expected safetensors with lad-edge metadata, found something else ({exc}); train or copy it again"
        ) from exc


def load_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote, strictly; returns its metadata."""
    tensors, meta = load_tensors(path)
    for name, module in modules.items():
        prefix = f"{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        try:
            module.load_state_dict(state, strict=True)
        except RuntimeError as exc:
            raise DataError(f"{path}: the weights of '{name}' do not fit the configured network; {exc}") from exc
    if optimiser is not None:
        _load_optimiser(optimiser, tensors)
    return meta


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {}
    for index, parameter in enumerate(_parameters(optimiser)):
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser/{index}/{key}"] = torch.as_tensor(value)
    return tensors


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = _parameters(optimiser)
    for name, value in tensors.items():
        head, _, rest = name.partition("/")
        if head == "optimiser":
            index, _, key = rest.partition("/")
            parameter = parameters[int(index)]
            # Adam keeps its step counter on the CPU, its moments beside the parameter
            optimiser.state[parameter][key] = value if key == "step" else value.to(parameter.device)
