"""Training images in memory, and the draws that follow from (seed, step) alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from lad_edge.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Images:
    """Images (N, 3, side, side), RGB in [0, 1], float32; batches come in an order that depends on seed and step only.

    mean, std: of the normalisation that the detector's frozen network wants.
    """

    def __init__(
        self,
        stack: Tensor,
        seed: int,
        device: torch.device,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        self.stack, self.seed, self.device = stack, seed, device
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))

    def __len__(self) -> int:
        return len(self.stack)

    def indices(self, step: int, batch: int) -> list[int]:
        """Which images step `step` sees: a fresh permutation for each epoch."""
        positions = range(step * batch, (step + 1) * batch)
        return [self._permutation(position // len(self))[position % len(self)] for position in positions]

    def _permutation(self, epoch: int) -> list[int]:
        if getattr(self, "_epoch", None) != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self), generator=generator).tolist()
        return self._order

    def pixels(self, step: int, batch: int) -> Tensor:
        """The batch of step `step`, (batch, 3, side, side) in [0, 1]."""
        return self.stack[self.indices(step, batch)].to(self.device)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Zero mean and unit variance, channels last in memory: the layout in which convolutions are fast."""
        return ((pixels - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def batch(self, step: int, batch: int) -> Tensor:
        """The batch of step `step`, normalised: (batch, 3, side, side)."""
        return self.normalise(self.pixels(step, batch))

    def one(self, index: int) -> Tensor:
        """Image `index`, normalised: (1, 3, side, side)."""
        return self.normalise(self.stack[index : index + 1].to(self.device))

    def each(self) -> Iterator[Tensor]:
        """Every image, normalised, one by one."""
        return (self.one(index) for index in range(len(self)))


@torch.no_grad()
def channel_statistics(describe: Callable[[Tensor], Tensor], images: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C, 1, 1) of a frozen network over all images and positions, in float64 and two passes."""
    sums = torch.stack([describe(image).double().mean((0, 2, 3)) for image in images.each()])
    mean = sums.mean(0).view(-1, 1, 1)
    squares = torch.stack([(describe(image).double() - mean).square().mean((0, 2, 3)) for image in images.each()])
    return mean.float(), squares.mean(0).sqrt().clamp_min(1e-6).view(-1, 1, 1).float()


class Descriptions:
    """What a frozen network says of each training image: computed once, kept in half precision."""

    def __init__(self, describe: Callable[[Tensor], Tensor], images: Images) -> None:
        self.describe, self.images = describe, images
        self.known: dict[int, Tensor] = {}

    def batch(self, step: int, batch: int) -> Tensor:
        """The descriptions of the images of `images.batch(step, batch)`, float32."""
        return torch.cat([self._of(index) for index in self.images.indices(step, batch)])

    def _of(self, index: int) -> Tensor:
        if index not in self.known:
            with torch.no_grad():
                self.known[index] = self.describe(self.images.one(index)).half()
        return self.known[index].float()


def augment_colour(pixels: Tensor) -> Tensor:
    """One of brightness, contrast and saturation, scaled by U(0.8, 1.2), per image of (N, 3, H, W) in [0, 1]."""
    return torch.cat([_augment_one(image[None]) for image in pixels])


def _augment_one(image: Tensor) -> Tensor:
    kind, factor = int(torch.randint(3, ())), float(torch.empty(()).uniform_(0.8, 1.2))
    grey = (image * torch.tensor([0.299, 0.587, 0.114], device=image.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    anchor = (torch.zeros_like(grey), grey.mean((1, 2, 3), keepdim=True), grey)[
        kind
    ]  # brightness, contrast, saturation
    return (anchor + factor * (image - anchor)).clamp(0, 1)


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where the hardware multiplies it natively, else float32."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def check_side(side: int) -> None:
    """Raises UsageError unless networks that halve the picture five times and more keep whole cells, eight at least."""
    if side % 64 or not 256 <= side <= 512:
        raise UsageError(
            f"--side {side}: expected a multiple of 64 from 256 to 512 (the autoencoder needs 8 cells after five halvings)"
        )


class DecayConfig(Protocol):
    """What a recipe says about its learning rate."""

    @property
    def schedule(self) -> str:
        """Name of the decay: "step" or "cosine"."""

    @property
    def steps(self) -> int:
        """Length of the training."""

    @property
    def decay_from(self) -> float:
        """Share of the steps at full rate, for "step"."""


def decay(config: DecayConfig) -> Callable[[int], float]:
    """Factor on the learning rate at a step: the papers' fall to a tenth near the end, or half a cosine.

    With batches of one the noise of the gradient hides what is learnt until the rate falls; the cosine lets it fall in time.
    """
    if config.schedule == "cosine":
        return lambda step: cosine(step, config.steps)
    decay_step = int(config.decay_from * config.steps)
    return lambda step: 0.1 if step >= decay_step else 1.0


def cosine(step: int, steps: int) -> float:
    """Half a period, from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))
