"""What a lesson is told: which network, which region, which promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DETECTOR = "masked_ridge"
FEWEST_PARTS = 5
# False-reject rates that a default threshold may promise: DEFAULT_RATE, or the smallest above it that so few parts carry.
DEFAULT_RATE, LARGER_RATES = 0.05, (0.1, 0.2)


@dataclass(frozen=True)
class Options:
    """name: of the engine. backbone, side: as for `open_backbone`, None = those of the engine that it goes on with.

    runtime, precision, threads: as for `runtime.open_runtime`; a taught engine runs at this precision.

    policy: of the threshold, None = conformal at DEFAULT_RATE or the smallest rate that the parts can carry. roi: (x, y, width, height).
    thumbnails: whether the engine keeps small pictures of parts, to show beside what it finds. gates: whether it refuses pictures of
    other light, focus and place than theirs. register: how far the region follows the part, in shares of the frame's sides; None = not.
    mask: (H, W) of the pictures, where they are looked at; None = everywhere.
    """

    name: str = "part"
    backbone: str | None = None
    side: int | None = None
    runtime: str | None = None
    precision: str | None = None
    threads: int | None = None
    policy: tuple[str, float] | None = None
    roi: tuple[int, int, int, int] | None = None
    thumbnails: bool = True
    gates: bool = True
    register: float | None = None
    mask: NDArray[np.bool_] | None = None


def default_policy(parts: int) -> tuple[str, float]:
    """Conformal at DEFAULT_RATE, or at the smallest rate above it that so few parts can carry."""
    rates = (DEFAULT_RATE, *LARGER_RATES)
    return "conformal", next((rate for rate in rates if (parts + 1) * rate >= 1), rates[-1])


def parts_for(rate: float) -> int:
    """Good parts that a conformal threshold of this false-reject rate needs."""
    return int(np.ceil(round(1 / rate, 9))) - 1
