"""The inspected region of a frame goes in; the same with one grey over every pixel that nobody shall look at comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lad_edge.bundle import Mask

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from lad_edge.bundle import Bundle

GREY = 127  # the middle of what backbones are trained with: what is painted over looks like nothing in particular
_LOOKED_AT = "mask/looked_at"


class Painter:
    """Owns the painted picture. Good parts and frames are painted alike, so what lies under the mask cannot change a score."""

    def __init__(self, looked_at: NDArray[np.bool_], grey: int = GREY) -> None:
        """looked_at: (h, w), of the region of interest; it moves with the region. grey: as in `bundle.Mask`."""
        self.looked_at, self.grey = looked_at, grey
        self._copied = looked_at.astype(np.uint8)
        self._painted = np.zeros((0,), np.uint8)

    @classmethod
    def of(cls, bundle: Bundle) -> Self | None:
        """That of an engine; None if it looks at all of its region."""
        mask, region_px = bundle.manifest.mask, bundle.manifest.contract.region_px
        if mask is None or region_px is None:
            return None
        bits = np.unpackbits(bundle.tensors[mask.looked_at], axis=1, count=region_px[0])
        return cls(bits.astype(bool), mask.grey)

    @property
    def stated(self) -> Mask:
        """For the manifest."""
        return Mask(_LOOKED_AT, self.grey)

    @property
    def tensors(self) -> dict[str, NDArray[np.uint8]]:
        """The one that `stated` names."""
        return {_LOOKED_AT: np.packbits(self.looked_at, axis=1)}

    def __call__(self, inspected: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) or (h, w) painted; the next picture overwrites it."""
        if self._painted.shape != inspected.shape:
            self._painted = np.full(inspected.shape, self.grey, np.uint8)
        cv2.copyTo(inspected, self._copied, self._painted)  # leaves alone what was painted at the start
        return self._painted

    def seen(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """(h, w) of this shape: where a cell of so coarse a map shows any pixel that is looked at."""
        height, width = shape
        return np.asarray(cv2.resize(self._copied * 255, (width, height), interpolation=cv2.INTER_AREA) > 0)
