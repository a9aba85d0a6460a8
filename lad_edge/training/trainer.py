"""The one training loop: a task gives losses, the loop steps, reports, checkpoints and resumes."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lad_edge.errors import UsageError
from lad_edge.training.checkpoint import load_checkpoint, save_checkpoint


class Task(Protocol):
    """What a method brings to the loop. Data order and noise must follow from `step` alone, so that resuming repeats nothing.

    A task may state `clip_norm`: longer gradients, over all its parameters, are scaled down to that norm.
    """

    modules: Mapping[str, nn.Module]  # saved and restored
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None

    def losses(self, step: int) -> dict[str, Tensor]:
        """The terms of the objective at this step; their sum is minimised."""
        ...

    def after_step(self) -> None:
        """Whatever follows the optimiser's step, such as a moving average."""
        ...


@dataclass(frozen=True)
class LoopConfig:
    """How long, how often, from which seed."""

    steps: int
    seed: int
    checkpoint_every_s: float = 60.0
    log_every: int = 50
    quiet: bool = False


def choose_device(name: str | None) -> torch.device:
    """CUDA where there is one, else the CPU; a device that was asked for and is missing is an error."""
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            f"--device {name}: PyTorch finds no CUDA device here; use --device cpu or install a CUDA build of torch"
        )
    return torch.device(name)


def step_seed(seed: int, step: int) -> int:
    """Every draw of a step, dropout too, follows from (seed, step): a resumed run equals an unbroken one."""
    return seed * 1_000_003 + step


def run_training(task: Task, config: LoopConfig, folder: Path, meta: Mapping[str, Any]) -> float:
    """Train up to `config.steps`, resuming from `folder`/checkpoint.safetensors if it is there. Returns the seconds spent in all."""
    checkpoint = folder / "checkpoint.safetensors"
    step, spent_s = _resume(task, checkpoint)
    log = LossLog(folder / "losses.csv", step)
    started = saved = time.monotonic()
    with tqdm(total=config.steps, initial=step, unit="step", disable=config.quiet, dynamic_ncols=True) as bar:
        while step < config.steps:
            log.add(_step(task, config.seed, step))
            step += 1
            bar.update()
            if step % config.log_every == 0 or step == config.steps:
                bar.set_postfix_str(log.write(step))
            if time.monotonic() - saved > config.checkpoint_every_s or step == config.steps:
                saved = time.monotonic()
                elapsed = spent_s + saved - started
                save_checkpoint(checkpoint, task.modules, task.optimiser, {**meta, "step": step, "seconds": elapsed})
    return spent_s + time.monotonic() - started


def _resume(task: Task, checkpoint: Path) -> tuple[int, float]:
    if not checkpoint.exists():
        return 0, 0.0
    meta = load_checkpoint(checkpoint, task.modules, task.optimiser)
    if task.schedule is not None:
        task.schedule.last_epoch = int(meta["step"]) - 1
        task.optimiser._opt_called = True  # type: ignore[attr-defined]  # the restored step was made by an optimiser
        task.schedule.step()
    return int(meta["step"]), float(meta["seconds"])


def _step(task: Task, seed: int, step: int) -> dict[str, Tensor]:
    torch.manual_seed(step_seed(seed, step))
    task.optimiser.zero_grad(set_to_none=True)
    losses = task.losses(step)
    total = torch.stack(list(losses.values())).sum()
    total.backward()  # type: ignore[no-untyped-call]
    _clip(task)
    task.optimiser.step()
    if task.schedule is not None:
        task.schedule.step()
    task.after_step()
    return {"total": total.detach()} | {name: loss.detach() for name, loss in losses.items()}


def _clip(task: Task) -> None:
    limit: float | None = getattr(task, "clip_norm", None)
    if limit is not None:
        trained = [parameter for group in task.optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, limit)


class LossLog:
    """Means of the losses since the last line, in a CSV file that a resumed run continues."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self._keep_lines_up_to(step)

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Accumulate on the losses' own device: no synchronisation per step."""
        self.sums = {name: loss + self.sums.get(name, torch.zeros_like(loss)) for name, loss in losses.items()}
        self.count += 1

    def write(self, step: int) -> str:
        """Append one line and return it for the progress bar."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["step", *means])
            writer.writerow([step, *(f"{value:.6g}" for value in means.values())])
        self.sums, self.count = {}, 0
        return " ".join(f"{name} {value:.3g}" for name, value in means.items())

    def _keep_lines_up_to(self, step: int) -> None:
        """A killed run may have logged steps after its last checkpoint; they will come again."""
        if not self.path.exists():
            return
        lines = self.path.read_text().splitlines()
        kept = lines[:1] + [line for line in lines[1:] if int(line.split(",", 1)[0]) <= step]
        if step == 0:
            self.path.unlink()
        else:
            self.path.write_text("\n".join(kept) + "\n")
