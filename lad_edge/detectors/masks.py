"""Which tokens are hidden: samplers of masks, and the fixed set that scores are computed with (methods card §6.4).

All masks are (side, side) or (count, side²) bool, True where a token is hidden; all draws come from the generator that is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Generator = np.random.Generator

ATTEMPTS = 10  # per block, before the rest is filled with single cells
ASPECT = 0.3  # blocks are at most this much flatter or narrower than square
SQUARE = 4  # cells on a side of the checkerboard's squares
FADE = 0.25  # worth of covering a cell once more, over that of covering it the last time (L-10)


def block_mask(generator: Generator, side: int, count: int, least: int) -> Mask:
    """`count` cells in rectangles of at least `least` cells where they fit; what no rectangle reaches is filled with single cells."""
    mask = np.zeros((side, side), np.bool_)
    while (remaining := count - int(mask.sum())) > 0:
        if not any(_place(generator, mask, remaining, least) for _ in range(ATTEMPTS)):
            return _filled(generator, mask, count)
    return mask


def _place(generator: Generator, mask: Mask, remaining: int, least: int) -> bool:
    """Try one rectangle; it must hide at least one new cell and not more than remain."""
    area = least + (remaining - least) * generator.random()
    ratio = math.exp(math.log(ASPECT) * (2 * generator.random() - 1))
    height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if not (0 < height < len(mask) and 0 < width < len(mask)):
        return False
    y, x = (int(generator.integers(len(mask) - extent + 1)) for extent in (height, width))
    part = mask[y : y + height, x : x + width]
    fits = 1 <= part.size - int(part.sum()) <= remaining
    if fits:
        part[:] = True
    return fits


def _filled(generator: Generator, mask: Mask, count: int) -> Mask:
    free = np.flatnonzero(~mask)
    mask.flat[generator.choice(free, count - (mask.size - len(free)), replace=False)] = True
    return mask


def random_mask(generator: Generator, side: int, count: int, _least: int) -> Mask:
    """`count` single cells."""
    return _filled(generator, np.zeros((side, side), np.bool_), count)


def mixed_mask(generator: Generator, side: int, count: int, least: int) -> Mask:
    """Half of the cells in rectangles, half of them single."""
    return _filled(generator, block_mask(generator, side, count // 2, min(least, max(1, count // 2))), count)


def checkerboard_mask(generator: Generator, side: int, _count: int, _least: int) -> Mask:
    """Every other square of 4×4 cells, shifted at random: about half of all cells, whatever the ratio."""
    y, x = (np.arange(side)[:, None] + generator.integers(2 * SQUARE, size=2)).T // SQUARE
    return np.asarray((y[:, None] + x[None, :]) % 2 == 0)


MASKINGS: dict[str, Callable[[Generator, int, int, int], Mask]] = {
    "block": block_mask,
    "random": random_mask,
    "block-random": mixed_mask,
    "checkerboard": checkerboard_mask,
}


def balanced_masks(pool: Mask, count: int) -> Mask:
    """`count` masks of the pool (P, cells), chosen one by one so that no cell is forgotten (decision L-10).

    Covering a cell for the n-th time is worth 0.25 to the power of n - 1; each mask is the one that is worth most, the first on ties.
    """
    covered, chosen = np.zeros(pool.shape[1]), []
    cells = pool.astype(np.float64)
    for _ in range(count):
        best = int((cells @ FADE**covered).argmax())
        chosen.append(pool[best])
        covered += pool[best]
    return np.stack(chosen)
