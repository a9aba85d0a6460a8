"""A frame goes in; the region of it that shows what the region of interest showed of the good parts comes out: moved, never resampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from lad_edge.bundle import Registration
from lad_edge.values import Reason
from lad_edge.views.placement import SIDE, Placement, Shift, region, small_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from lad_edge.bundle import Bundle
    from lad_edge.views.placement import Roi

_MEAN = "registration/mean"


class Window(NamedTuple):
    """inspected: a view of the frame. moved_px: how far the part lies to the right and down; findings: reasons not to trust it."""

    inspected: NDArray[np.uint8]
    moved_px: tuple[int, int]
    findings: list[tuple[Reason, str]]


class Follower:
    """Moves the region of interest with the part, by whole pixels and no farther than stated.

    The first part that it learns from marks the place; each further one is moved to the mean picture of those before it.
    """

    def __init__(self, roi: Roi, most_px: tuple[int, int]) -> None:
        """Both as in `bundle.Contract` and `bundle.Registration`."""
        self.roi, self.most_px = roi, most_px
        x, y, width, height = roi
        most_x, most_y = most_px
        self._around = (x - most_x, y - most_y, width + 2 * most_x, height + 2 * most_y)
        self._mean, self._n = np.zeros((SIDE, SIDE), np.float32), 0
        self._placement: Placement | None = None

    @classmethod
    def of(cls, bundle: Bundle) -> Self | None:
        """That of an engine; None if its region stays where it is."""
        registration, roi = bundle.manifest.registration, bundle.manifest.contract.roi
        if registration is None or roi is None:
            return None
        follower = cls(roi, registration.most_px)
        follower._know(bundle.tensors[registration.mean], registration.n)
        return follower

    @property
    def stated(self) -> Registration:
        """For the manifest."""
        return Registration(self.most_px, _MEAN, self._n)

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Those that `stated` names."""
        return {_MEAN: self._mean}

    def __call__(self, image: NDArray[np.uint8]) -> Window:
        """The region of this frame, (H, W, 3) BGR or (H, W) grey. PART_MISPLACED if the part lies farther off than the region may move."""
        return self._window(image, self._shift(small_grey(region(image, self._around))))

    def at(self, image: NDArray[np.uint8], moved_px: tuple[int, int]) -> NDArray[np.uint8]:
        """The region of interest, moved; a view."""
        x, y, width, height = self.roi
        return region(image, (x + moved_px[0], y + moved_px[1], width, height))

    def learn(self, image: NDArray[np.uint8]) -> Window:
        """The same for a good part, whose picture becomes part of the mean."""
        small = small_grey(region(image, self._around))
        shift = self._shift(small)
        back = np.array([[1, 0, -shift.x * SIDE], [0, 1, -shift.y * SIDE]], np.float32)
        in_place = cv2.warpAffine(small, back, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        self._know((self._n * self._mean + in_place) / (self._n + 1), self._n + 1)
        return self._window(image, shift)

    def _know(self, mean: NDArray[np.float32], parts: int) -> None:
        self._mean, self._n, self._placement = np.asarray(mean, np.float32), parts, Placement(mean)

    def _shift(self, small: NDArray[np.uint8]) -> Shift:
        return Shift(0.0, 0.0) if self._placement is None else self._placement(small)

    def _window(self, image: NDArray[np.uint8], shift: Shift) -> Window:
        wanted = (round(shift.x * self._around[2]), round(shift.y * self._around[3]))
        right, down = (min(max(px, -most), most) for px, most in zip(wanted, self.most_px, strict=True))
        findings = []
        if (right, down) != wanted:
            words = f"the part lies {wanted[0]:+d} px across and {wanted[1]:+d} px down, its region follows by {self.most_px} px at most"
            findings.append(
                (Reason.PART_MISPLACED, f"{words}: look at the fixture, the trigger and the camera's mount")
            )
        return Window(self.at(image, (right, down)), (right, down), findings)


def room_around(width: int, height: int, share: float) -> tuple[Roi, tuple[int, int]]:
    """The region of a frame that can move by this share of its sides, and that many px (x, y)."""
    most = (round(share * width), round(share * height))
    return (most[0], most[1], width - 2 * most[0], height - 2 * most[1]), most
