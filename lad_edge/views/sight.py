"""A frame of the camera goes in; what the engine judges of it comes out: cropped, following the part, painted over where nobody looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.errors import UsageError
from lad_edge.views.mask import Painter
from lad_edge.views.placement import region
from lad_edge.views.registration import Follower, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from lad_edge.bundle import Bundle, Contract
    from lad_edge.views.placement import Roi


@dataclass(frozen=True)
class Sight:
    """crop: the region of the camera's frame that is the engine's frame, roi: the region of that which is inspected; None = all of it.

    follower: moves the roi with the part. painter: paints over what nobody looks at.
    """

    roi: Roi | None = None
    follower: Follower | None = None
    painter: Painter | None = None
    crop: Roi | None = None

    @classmethod
    def of(cls, bundle: Bundle, crop: Roi | None = None) -> Self:
        """That of an engine. Raises UsageError if it takes no frames like the crop."""
        if crop is not None:
            _check_crop(bundle.manifest.contract, crop)
        return cls(bundle.manifest.contract.roi, Follower.of(bundle), Painter.of(bundle), crop)

    @property
    def area(self) -> Roi | None:
        """Where in the camera's frame the map of a part lies that is in its place; None = all of it."""
        if self.crop is None:
            return self.roi
        left, top, width, height = self.crop
        x, y, width, height = self.roi or (0, 0, width, height)
        return left + x, top + y, width, height

    def of_camera(self, contract: Contract) -> Contract:
        """What the camera's frames must be, where `contract` says what the engine's must be."""
        return contract if self.crop is None else replace(contract, width=None, height=None, roi=self.crop)

    def __call__(self, image: NDArray[np.uint8]) -> Window:
        """Of one frame of the camera; a painted region is overwritten by the next one."""
        image = region(image, self.crop)
        return self._painted(self._still(image) if self.follower is None else self.follower(image))

    def learn(self, image: NDArray[np.uint8]) -> Window:
        """The same for a good part, from whose place the follower learns."""
        return self._painted(self._still(image) if self.follower is None else self.follower.learn(image))

    def at_rest(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What is judged of a frame of the engine, whose part is in its place."""
        return self._painted(self._still(image)).inspected

    def shown(self, anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """The map without what it has over pixels that nobody looks at; those around them reach into it."""
        if self.painter is None:
            return anomaly_map
        return np.where(self.painter.seen(anomaly_map.shape), anomaly_map, np.float32(0))

    def _still(self, image: NDArray[np.uint8]) -> Window:
        return Window(region(image, self.roi), (0, 0), [])

    def _painted(self, window: Window) -> Window:
        return window if self.painter is None else window._replace(inspected=self.painter(window.inspected))


def _check_crop(contract: Contract, crop: Roi) -> None:
    _, _, width, height = crop
    x, y, least_width, least_height = contract.roi or (0, 0, 1, 1)
    if contract.width not in (None, width) or contract.height not in (None, height):
        raise UsageError(
            f"--roi gives the engine {width}x{height} px of each frame, it needs {contract.width}x{contract.height}; "
            "take a region as large as the pictures that it was made from"
        )
    if x + least_width > width or y + least_height > height:
        raise UsageError(
            f"--roi gives the engine {width}x{height} px of each frame, it looks at {contract.roi} of them; take a larger region"
        )
