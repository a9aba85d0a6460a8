"""The canvas of the synthetic data set: a height field with materials, in the frame of the tray."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, sin

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

WORLD_WIDTH, WORLD_HEIGHT = 640, 480  # tray units: 1 unit is 1 pixel of a 640 x 480 frame


@dataclass(frozen=True)
class Field:
    """A height field with materials; the arrays are drawn on in place.

    height (tray units), metal, gloss: (H, W) float32; colour: (H, W, 3) float32, linear BGR reflectance.
    unit_px: pixels for one tray unit. The origin of tray coordinates is the middle of a whole field.
    """

    height: Map
    colour: Map
    metal: Map
    gloss: Map
    unit_px: float

    def copy(self) -> Field:
        """A field to draw on that leaves this one as it is."""
        return Field(self.height.copy(), self.colour.copy(), self.metal.copy(), self.gloss.copy(), self.unit_px)

    def crop(self, rows: slice, columns: slice) -> Field:
        """A view of a window: drawing on it draws on this field."""
        window = (rows, columns)
        return Field(self.height[window], self.colour[window], self.metal[window], self.gloss[window], self.unit_px)

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns within `reach` tray units of (x, y), cut at the border."""
        row, column = int((y + WORLD_HEIGHT / 2) * self.unit_px), int((x + WORLD_WIDTH / 2) * self.unit_px)
        r, (h, w) = ceil(reach * self.unit_px), self.height.shape
        return slice(max(0, row - r), min(h, row + r + 1)), slice(max(0, column - r), min(w, column + r + 1))

    def local(self, rows: slice, columns: slice, x: float, y: float, angle: float) -> tuple[Map, Map]:
        """Coordinates (u, v) of a window's pixels in a frame at (x, y) turned by `angle`, in tray units."""
        ys = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / self.unit_px - WORLD_HEIGHT / 2 - y
        xs = (np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5) / self.unit_px - WORLD_WIDTH / 2 - x
        xs, ys, c, s = np.float32(xs), np.float32(ys), np.float32(cos(angle)), np.float32(sin(angle))
        return xs[None, :] * c + ys[:, None] * s, ys[:, None] * c - xs[None, :] * s
