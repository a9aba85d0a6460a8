"""Structural defects of the synthetic kit: scratch, stain, dent and crack, drawn into its height field."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from lad_edge.datasets.synthetic_field import Field, Map
    from lad_edge.datasets.synthetic_scene import Mark

_RESIDUE = np.array([0.20, 0.33, 0.42], np.float32)  # dried coolant: linear BGR
_WHITENED = 0.30  # scratched plastic scatters


def draw_mark(field: Field, mark: Mark) -> Map:
    """Draws the defect into the field and returns its stencil, (H, W) float32: 1 where it changes the picture."""
    rows, columns = field.window(mark.x, mark.y, 1.3 * mark.size + 6)
    u, v = field.local(rows, columns, mark.x, mark.y, mark.angle)
    touched = MARKS[mark.kind](field.crop(rows, columns), u, v, mark, np.random.default_rng(mark.seed))
    stencil = np.zeros_like(field.height)
    # Lens blur and the slope at its edge carry a defect about two units beyond what was drawn.
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(2 * field.unit_px) + 1,) * 2)
    stencil[rows, columns] = cv2.dilate(touched.astype(np.float32), reach)
    return stencil


def _scratch(field: Field, u: Map, v: Map, mark: Mark, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A long groove with raised, whitened sides; deeper in the middle."""
    bend, wave = rng.uniform(-0.25, 0.25), rng.uniform(0.01, 0.03) * mark.size
    along = u / mark.size
    centre = mark.size * bend * along**2 + wave * np.sin(5 * along + rng.uniform(0, 6))
    taper = np.sqrt(np.clip(1 - along**2, 0, 1))
    width = (0.55 + 0.75 * mark.severity) * taper
    line = np.clip((width - np.abs(v - centre)) * field.unit_px + 0.5, 0, 1) * (taper > 0)
    field.height[:] -= 0.9 * mark.severity * line
    field.colour[:] += ((0.25 + 0.55 * mark.severity) * line)[..., None] * (_WHITENED - field.colour)
    return np.asarray(line > 0)


def _stain(field: Field, u: Map, v: Map, mark: Mark, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A dried puddle: uneven outline, thin in the middle, thicker at the rim where it dried last."""
    angle = np.arctan2(v, u)
    outline = np.ones_like(u)
    for k in range(2, 7):
        outline += rng.normal(0, 0.22 / k) * np.cos(k * angle + rng.uniform(0, 6)).astype(np.float32)
    inside = 0.8 * mark.size * outline - np.hypot(u, v)  # distance to the outline, about
    film = np.clip(inside / 2.5, 0, 1) * (0.45 + 0.55 * np.exp(-(((inside - 2.5) / 3.0) ** 2)))
    blotch = cv2.GaussianBlur(rng.standard_normal(u.shape, dtype=np.float32), (0, 0), 5.0 * field.unit_px)
    film = np.clip(film * (1 + 0.3 * blotch / (blotch.std() + 1e-6)), 0, 1) * (0.25 + 0.55 * mark.severity)
    film = film.astype(np.float32)
    field.colour[:] += film[..., None] * (_RESIDUE - field.colour)
    field.metal[:] *= 1 - film
    field.gloss[:] *= 1 - 0.6 * film
    return np.asarray(inside > 0)


def _dent(field: Field, u: Map, v: Map, mark: Mark, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A pressed-in hollow with a steep edge, and a low bulge of displaced material around it."""
    stretch = rng.uniform(0.75, 1.3)
    radius = np.hypot(u * stretch, v / stretch) / mark.size
    hollow = np.clip(1 - radius**2, 0, 1) ** 1.5
    bulge = np.exp(-(((radius - 1.0) / 0.14) ** 2))
    depth = (3.0 + 7.0 * mark.severity) * mark.size / 16
    field.height[:] -= np.float32(depth) * (hollow - 0.18 * bulge)
    field.colour[:] += (0.35 * mark.severity * bulge)[..., None] * (_WHITENED - field.colour)
    return np.asarray(radius < 1.25)


def _crack(field: Field, u: Map, v: Map, mark: Mark, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A jagged dark split with one or two branches; one lip stands a little higher."""
    split = np.zeros_like(u)
    main = _jagged(rng, (-mark.size, 0.0), (mark.size, 0.0), 0.16 * mark.size)
    _stroke(split, u, v, main, 0.5 + 0.5 * mark.severity, field.unit_px)
    for _ in range(int(rng.integers(1, 3))):
        start = main[int(rng.integers(len(main) // 4, 3 * len(main) // 4))]
        heading, length = rng.uniform(0.4, 1.1) * rng.choice((-1.0, 1.0)), rng.uniform(0.3, 0.55) * mark.size
        end = (start[0] + length * np.cos(heading), start[1] + length * np.sin(heading))
        _stroke(split, u, v, _jagged(rng, tuple(start), end, 0.12 * length), 0.35 + 0.3 * mark.severity, field.unit_px)
    lip = cv2.GaussianBlur(split, (0, 0), 1.2 * field.unit_px)
    field.height[:] -= (1.2 + 1.8 * mark.severity) * split - 0.5 * mark.severity * lip
    field.colour[:] *= (1 - (0.55 + 0.4 * mark.severity) * split)[..., None]
    field.gloss[:] *= 1 - split
    return np.asarray(split > 0)


def _jagged(
    rng: np.random.Generator, start: tuple[float, ...], end: tuple[float, ...], roughness: float
) -> NDArray[np.float64]:
    """A broken line from start to end, (17, 2): halved four times, each middle displaced, each time less."""
    points = np.array([start, end], np.float64)
    for _ in range(4):
        middles = (points[:-1] + points[1:]) / 2 + rng.normal(0, roughness, (len(points) - 1, 2))
        joined = np.empty((2 * len(points) - 1, 2))
        joined[0::2], joined[1::2] = points, middles
        points, roughness = joined, roughness * 0.55
    return points


def _stroke(canvas: Map, u: Map, v: Map, points: NDArray[np.float64], width: float, unit_px: float) -> None:
    """Draws a line of this width that thins out towards its end, antialiased, by distance to each piece."""
    for i, (a, b) in enumerate(pairwise(points)):
        du, dv = b - a
        t = np.clip(((u - a[0]) * du + (v - a[1]) * dv) / (du * du + dv * dv + 1e-9), 0, 1)
        distance = np.hypot(u - (a[0] + t * du), v - (a[1] + t * dv))
        half = width * (1 - 0.7 * i / len(points))
        np.maximum(canvas, np.clip((half - distance) * unit_px + 0.5, 0, 1).astype(np.float32), out=canvas)


MARKS: Mapping[str, Callable[[Field, Map, Map, Mark, np.random.Generator], NDArray[np.bool_]]] = {
    "scratch": _scratch,
    "stain": _stain,
    "dent": _dent,
    "crack": _crack,
}
