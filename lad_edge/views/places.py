"""What was found in pixels of an anomaly map goes in; the same in pixels of the camera's frame comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lad_edge.values import GoodPatch, Region

if TYPE_CHECKING:
    from lad_edge.kernels import LabelledRegion
    from lad_edge.views.placement import Roi


@dataclass(frozen=True)
class PlaceOfMap:
    """area: x, y, width and height in px of the frame that the map covers; map_shape: (h, w)."""

    area: Roi
    map_shape: tuple[int, ...]

    def region(self, found: LabelledRegion) -> Region:
        """An area above the threshold."""
        x_px, y_px, width_px, height_px = self._box(found)
        (x, y), (scale_x, scale_y) = self._origin, self._scale
        return Region(
            x_px=x_px,
            y_px=y_px,
            width_px=width_px,
            height_px=height_px,
            area_px=max(1, round(found.area_px * scale_x * scale_y)),
            peak=found.peak,
            peak_x_px=int(x + scale_x * (found.peak_x_px + 0.5)),
            peak_y_px=int(y + scale_y * (found.peak_y_px + 0.5)),
        )

    def patch(self, found: GoodPatch) -> GoodPatch:
        """A place, and what a good part shows there."""
        x_px, y_px, width_px, height_px = self._box(found)
        return replace(found, x_px=x_px, y_px=y_px, width_px=width_px, height_px=height_px)

    @property
    def _origin(self) -> tuple[int, int]:
        return self.area[:2]

    @property
    def _scale(self) -> tuple[float, float]:
        """Pixels of the frame for one of the map, across and down."""
        return self.area[2] / self.map_shape[1], self.area[3] / self.map_shape[0]

    def _box(self, found: LabelledRegion | GoodPatch) -> Roi:
        """Of the frame's pixels that cover a box of the map."""
        (x, y), (scale_x, scale_y) = self._origin, self._scale
        left, right = (round(x + scale_x * edge) for edge in (found.x_px, found.x_px + found.width_px))
        top, bottom = (round(y + scale_y * edge) for edge in (found.y_px, found.y_px + found.height_px))
        return left, top, max(1, right - left), max(1, bottom - top)
