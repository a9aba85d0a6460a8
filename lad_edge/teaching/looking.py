"""Words of the user and the first part's picture go in; what the lesson will look at in every picture comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lad_edge.errors import UsageError
from lad_edge.views import Follower, Painter, Roi, Sight, region, room_around

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def new_sight(
    first: NDArray[np.uint8], roi: Roi | None, register: float | None, mask: NDArray[np.bool_] | None
) -> Sight:
    """roi, register, mask: as in `lesson.Options`. Raises UsageError for what does not fit the first picture, (H, W, 3) or (H, W)."""
    follower = None if register is None else _follower(first, roi, register)
    roi = roi if follower is None else follower.roi
    return Sight(roi, follower, None if mask is None else _painter(first, roi, mask))


def _follower(first: NDArray[np.uint8], roi: Roi | None, share: float) -> Follower:
    height, width = first.shape[:2]
    inner, most_px = room_around(width, height, share)
    x, y, roi_width, roi_height = roi = roi or inner
    room = min(x, width - x - roi_width), min(y, height - y - roi_height)
    if room[0] < most_px[0] or room[1] < most_px[1]:
        raise UsageError(
            f"--register {share:.0%} moves the region by {most_px[0]} px to each side and {most_px[1]} px up and down, --roi leaves "
            f"{max(room[0], 0)} px and {max(room[1], 0)} px of the picture around it; take less of either"
        )
    return Follower(roi, most_px)


def _painter(first: NDArray[np.uint8], roi: Roi | None, mask: NDArray[np.bool_]) -> Painter:
    if mask.shape != first.shape[:2]:
        (height, width), (rows, columns) = first.shape[:2], mask.shape
        raise UsageError(f"--mask is {columns}x{rows} px, the pictures are {width}x{height}; draw it on one of them")
    looked_at = region(mask, roi)
    if not looked_at.any():
        raise UsageError("--mask leaves nothing to look at: white is looked at, black is not")
    return Painter(looked_at)
