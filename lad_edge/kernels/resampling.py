"""Enlarging and blurring as matrices: out = rows @ map @ columns.T, for `kernels.project_maps`.

Every row sums to 1, so that a constant stays itself and affine maps commute with it. (methods.md 7.5 and 13.6)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Border = Literal["reflect101", "symmetric"]


def bilinear(size_in: int, size_out: int, corners: bool) -> NDArray[np.float64]:
    """(size_out, size_in) linear interpolation along one axis, without antialias, as torch's interpolate.

    corners: the outer samples of both grids coincide (align_corners=True, FOD); else half-pixel centres, clamped at the
    edges (align_corners=False, ULSAD).
    """
    index = np.arange(size_out)
    if corners:
        position = index * ((size_in - 1) / max(size_out - 1, 1))
    else:
        position = np.clip((index + 0.5) * (size_in / size_out) - 0.5, 0, size_in - 1)
    distance = np.abs(position[:, None] - np.arange(size_in)[None, :])
    return np.asarray(np.clip(1.0 - distance, 0.0, None))


def gaussian(size: int, sigma: float, border: Border, radius: int | None = None) -> NDArray[np.float64]:
    """(size, size) Gaussian blur along one axis, cut at `radius` samples (None: 4 sigma, rounded) and normalised.

    border: "reflect101" repeats neither edge (dcb|abcd|cba; OpenCV's BORDER_REFLECT_101, ULSAD), "symmetric" repeats both
    (cba|abcd|dcb; scipy's "reflect", FOD). Raises ValueError for a sigma that is not positive or an unknown border.
    """
    if not sigma > 0:
        raise ValueError(f"sigma: expected a positive number of samples, got {sigma}")
    reach = int(4.0 * sigma + 0.5) if radius is None else radius
    offsets = np.arange(-reach, reach + 1)
    taps = np.exp(-0.5 * (offsets / sigma) ** 2)
    matrix = np.zeros((size, size))
    source = folded(np.arange(size)[:, None] + offsets[None, :], size, border)
    np.add.at(matrix, (np.arange(size)[:, None], source), taps / taps.sum())
    return matrix


def folded(index: NDArray[np.int64], size: int, border: Border) -> NDArray[np.int64]:
    """Indices behind the borders, however far, brought back to 0 .. size - 1."""
    if border not in ("reflect101", "symmetric"):
        raise ValueError(f"border: expected 'reflect101' or 'symmetric', got {border!r}")
    if border == "symmetric":
        index = index % (2 * size)
        return np.asarray(np.minimum(index, 2 * size - 1 - index))
    index = index % max(2 * size - 2, 1)
    return np.asarray(np.minimum(index, 2 * size - 2 - index))


def blurred_bilinear(
    size_in: int, size_out: int, sigma: float, *, border: Border, corners: bool = False, radius: int | None = None
) -> NDArray[np.float32]:
    """(size_out, size_in) float32: `bilinear`, then `gaussian` over the enlarged axis; ready for `project_maps`."""
    matrix = gaussian(size_out, sigma, border, radius) @ bilinear(size_in, size_out, corners)
    return np.ascontiguousarray(matrix, np.float32)
