"""A picture goes in; numbers for its light, contrast and focus come out, cheap enough for every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from lad_edge.views.placement import as_grey, small_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

SATURATED_LEVEL = 250  # grey that counts as saturated
BRIGHTEST = 0.05  # share of the pixels that reach the brightness
_ROWS = 20  # of the full resolution that the sharpness looks at, with the rows above and below
_LEVELS = np.arange(256)


class Quality(NamedTuple):
    """What one picture shows, whatever lies on it.

    mean_grey: 0..255. median: grey level of half of the pixels; brightness: the one that the brightest 5 % reach, at least 1. saturated:
    share of the pixels at or over SATURATED_LEVEL. contrast: standard deviation of the grey levels; sharpness: that of their Laplacian
    (Pech-Pacheco et al., 2000). Both in units of the brightness, so that a weaker lamp changes neither. Sharpness is comparable between
    pictures of one size alone.
    """

    mean_grey: float
    median: float
    brightness: float
    saturated: float
    contrast: float
    sharpness: float


def measure(image: NDArray[np.uint8], small: NDArray[np.uint8] | None = None) -> Quality:
    """Of (H, W, 3) BGR or (H, W) grey, uint8. small: its `small_grey`, if it is there already."""
    if small is None:
        small = small_grey(image)
    counts = cv2.calcHist([small], [0], None, [256], [0, 256]).ravel()  # (256,) or (256, 1), by OpenCV's version
    share = counts / counts.sum()
    mean = float(share @ _LEVELS)
    median, bright = np.searchsorted(np.cumsum(share), (0.5, 1 - BRIGHTEST)).tolist()
    brightness = max(bright, 1)
    return Quality(
        mean_grey=mean,
        median=float(median),
        brightness=float(brightness),
        saturated=float(share[SATURATED_LEVEL:].sum()),
        contrast=float(np.sqrt(share @ np.square(_LEVELS - mean))) / brightness,
        sharpness=_laplacian_deviation(image) / brightness,
    )


def _laplacian_deviation(image: NDArray[np.uint8]) -> float:
    """Standard deviation of the Laplacian on evenly spread rows; 0 for a picture of fewer than 3 rows or columns."""
    height, width = image.shape[:2]
    if min(height, width) < 3:
        return 0.0
    middle = np.linspace(1, height - 2, min(_ROWS, height - 2)).astype(np.intp)
    rows = as_grey(image[(middle[:, None] + (-1, 0, 1)).ravel()])
    laplacian = cv2.Laplacian(rows, cv2.CV_16S)[
        1::3, 1:-1
    ]  # the rows in the middle of each three: the others meet strange neighbours
    return float(cv2.meanStdDev(laplacian)[1].item())
