"""What a bundle says of parts that do not always lie in the same place."""

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

_MOST_PX = 1 << 16


@dataclass(frozen=True)
class Registration:
    """The region of interest follows the part. most_px: how far, to each side (x) and up or down (y), in px of the frame.

    mean: float32 tensor (side, side), the mean small picture of the good parts, of the region of interest and `most_px` around it. n: how
    many they were.
    """

    most_px: tuple[int, int]
    mean: str
    n: int


def parse_registration(value: object) -> Registration:
    """Return the registration in a JSON value; a missing, unknown or wrong key is refused by its dotted name."""
    fields = Fields(value, "registration")
    registration = Registration(
        most_px=cast("tuple[int, int]", fields.integers("most_px", 2, 0, _MOST_PX)),
        mean=check_tensor_name(fields.text("mean")),
        n=fields.integer("n", 1, 2**31),
    )
    fields.end()
    return registration


def check_registration(
    registration: Registration,
    roi: tuple[int, int, int, int] | None,
    frame: tuple[int | None, int | None],
    tensors: Mapping[str, NDArray[np.generic]],
) -> None:
    """Refuse a region that is not stated, or moves out of the frame (width, height), and a mean picture that is none."""
    (most_x, most_y), (frame_width, frame_height) = registration.most_px, frame
    if roi is None or frame_width is None or frame_height is None:
        raise Refused("MANIFEST", "'registration' needs 'contract.roi' and the size of the frames")
    x, y, width, height = roi
    if min(x - most_x, y - most_y, frame_width - x - width - most_x, frame_height - y - height - most_y) < 0:
        raise Refused(
            "MANIFEST", f"'registration.most_px' {registration.most_px} moves the region {roi} out of the frame"
        )
    mean = tensors.get(registration.mean)
    if mean is None or mean.dtype != np.float32 or mean.ndim != 2 or not np.isfinite(mean).all():
        raise Refused(
            "MANIFEST", f"'registration.mean' names the tensor '{registration.mean}': expected finite F32 (side, side)"
        )
