"""What a bundle says of pixels that nobody looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from lad_edge.bundle.fields import Fields
from lad_edge.bundle.layout import check_tensor_name
from lad_edge.bundle.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Mask:
    """Pixels of the region of interest that are painted over before anything is measured, at teaching and at running alike.

    looked_at: uint8 tensor (height, ceil(width / 8)), one bit a pixel, 1 = looked at, the first pixel in the highest bit (numpy.packbits).
    grey: what the other pixels are painted with, 0..255.
    """

    looked_at: str
    grey: int


def parse_mask(value: object) -> Mask:
    """Return the mask in a JSON value; a missing, unknown or wrong key is refused by its dotted name."""
    fields = Fields(value, "mask")
    mask = Mask(looked_at=check_tensor_name(fields.text("looked_at")), grey=fields.integer("grey", 0, 255))
    fields.end()
    return mask


def check_mask(mask: Mask, region_px: tuple[int, int] | None, tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """Refuse a tensor that is no mask of the region of interest (width, height), or that hides all of it."""
    if region_px is None:
        raise Refused("MANIFEST", "'mask' needs 'contract.roi' or the size of the frames")
    width, height = region_px
    expected = (height, -(-width // 8))
    bits = tensors.get(mask.looked_at)
    if bits is None or bits.dtype != np.uint8 or bits.shape != expected:
        found = "none" if bits is None else f"{bits.dtype} {bits.shape}"
        raise Refused("SHAPE", f"'mask.looked_at' names '{mask.looked_at}': expected U8 {expected}, found {found}")
    if not np.unpackbits(cast("NDArray[np.uint8]", bits), axis=1, count=width).any():
        raise Refused("MANIFEST", "'mask.looked_at' hides all of the region of interest")
