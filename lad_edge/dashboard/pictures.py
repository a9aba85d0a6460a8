"""A frame and its result go in; a JPEG of at most 960 px and a small PNG of the map come out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lad_edge.stream.overlays import as_bgr, heat_bgra
from lad_edge.views.quality import measure

if TYPE_CHECKING:
    from lad_edge.stream.overlays import Box
    from lad_edge.values import Frame, Result

WIDEST_PX, _WIDEST_MAP_PX = 960, 256
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 80)
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 3)


class Encoded:
    """picture: JPEG or nothing; heat: PNG with transparency or nothing; width_px, height_px: of the frame, not of the JPEG.

    mean_grey, sharpness: of the picture as it is shown (views/quality.py), None without one.
    """

    def __init__(self, frame: Frame, result: Result, roi: Box | None, span: float | None) -> None:
        """roi: the part of the frame that the map covers, None = all of it; span: see `heat_level`. Raises cv2.error, ValueError."""
        self.picture = self.heat = b""
        self.width_px = self.height_px = 0
        self.mean_grey: float | None = None
        self.sharpness: float | None = None
        self.map_box: Box = (0, 0, 0, 0)
        if frame.image is None or frame.image.dtype != np.uint8 or frame.image.ndim not in (2, 3):
            return
        self.height_px, self.width_px = frame.image.shape[:2]
        shown = as_bgr(replace(frame, image=_at_most(frame.image, WIDEST_PX)))
        quality = measure(shown)
        self.mean_grey, self.sharpness = quality.mean_grey, quality.sharpness
        self.picture = cv2.imencode(".jpg", shown, _JPEG)[1].tobytes()
        self.map_box = roi or (0, 0, self.width_px, self.height_px)
        if result.anomaly_map is not None and result.threshold is not None:
            heat = heat_bgra(_at_most(result.anomaly_map, _WIDEST_MAP_PX), result.threshold, span)
            self.heat = cv2.imencode(".png", heat, _FAST_PNG)[1].tobytes()

    def head(self) -> dict[str, Any]:
        """What the page must know to lay the map over the picture; pixels of the frame."""
        if not self.picture:
            return {}
        return {"width_px": self.width_px, "height_px": self.height_px, "map_box": list(self.map_box)}


def _at_most(picture: Any, longest_px: int) -> Any:
    """The picture, or a smaller one; (H, W) or (H, W, C)."""
    height, width = picture.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1.0:
        return picture
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
