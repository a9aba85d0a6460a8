"""The parts of the synthetic kit as small reliefs: from local coordinates to height, cover and material.

Each shape is written for a part that lies at the origin, unrotated, in tray units. Arrays are (h, w) float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lad_edge.datasets.synthetic_scene import screw_length

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lad_edge.datasets.synthetic_field import Map

Colour = tuple[float, float, float]  # linear blue, green, red reflectance

STEEL: Colour = (0.70, 0.71, 0.72)
ZINC: Colour = (0.62, 0.68, 0.72)
BLACK_RUBBER: Colour = (0.016, 0.016, 0.017)
CAP_COLOURS: Mapping[str, Colour] = {
    "red_cap": (0.035, 0.030, 0.46),
    "blue_cap": (0.42, 0.135, 0.030),
    "yellow_cap": (0.030, 0.40, 0.62),
}


@dataclass(frozen=True)
class Relief:
    """A part seen from above. height: over the floor, tray units; cover: 0..1; both (h, w); one material for all."""

    height: Map
    cover: Map
    colour: Colour
    metal: float
    gloss: float


def relief(kind: str, u: Map, v: Map, rng: np.random.Generator, unit_px: float) -> Relief:
    """The part of this kind at local coordinates (u, v); `rng` gives its own wear, tilt and tint."""
    shape = _SHAPES[kind]
    made = shape(u, v, rng, unit_px)
    tilt = rng.normal(0, 0.03, 2)  # nothing lies perfectly flat; bright metal shows it
    height = made.height + np.float32(tilt[0]) * u + np.float32(tilt[1]) * v
    tint = float(rng.normal(1.0, 0.03))
    b, g, r = made.colour
    return Relief(height, made.cover, (b * tint, g * tint, r * tint), made.metal, made.gloss)


def _cover(distance: Map, unit_px: float) -> Map:
    """Signed distance (negative inside, tray units) to cover: one pixel of antialiasing."""
    return np.asarray(np.clip(0.5 - distance * unit_px, 0, 1), np.float32)


def _grain(shape: tuple[int, ...], rng: np.random.Generator, along: float, across: float) -> Map:
    """Brushed or cast surface: noise smoothed by `along` and `across` pixels, unit variance."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=along, sigmaY=across)
    return np.asarray(noise / (noise.std() + 1e-6), np.float32)


def _nut(u: Map, v: Map, rng: np.random.Generator, unit_px: float) -> Relief:
    angles = np.arange(3) * np.pi / 3
    flats = np.max([np.abs(u * np.float32(np.cos(a)) + v * np.float32(np.sin(a))) for a in angles], axis=0) - 22.0
    radius = np.hypot(u, v)
    bore = 11.0 - radius
    chamfer = np.clip((radius - 20.5) * 0.55, 0, None)  # the cone that rounds the six corners
    countersink = np.clip(14.0 - radius, 0, None) * 0.9
    height = 17.0 - chamfer - countersink + 0.018 * _grain(u.shape, rng, 3.0, 0.9)
    return Relief(np.float32(height), _cover(np.maximum(flats, bore), unit_px), STEEL, 1.0, 0.6)


def _washer(u: Map, v: Map, rng: np.random.Generator, unit_px: float) -> Relief:
    radius = np.hypot(u, v)
    edge = np.maximum(radius - 27.0, 12.5 - radius)
    turned = 0.008 * np.sin(radius * 4.2 + float(rng.uniform(0, 6)))  # rings left by the punch and the polish
    height = 4.5 - np.clip(edge + 1.8, 0, None) * 0.8 + turned + 0.012 * _grain(u.shape, rng, 1.5, 1.5)
    return Relief(np.float32(height), _cover(edge, unit_px), ZINC, 1.0, 0.6)


def _o_ring(u: Map, v: Map, rng: np.random.Generator, unit_px: float) -> Relief:
    squash = float(rng.uniform(0.94, 1.06))
    radius = np.hypot(u * np.float32(squash), v / np.float32(squash))
    from_core = np.abs(radius - 33.0)
    height = 5.5 + np.sqrt(np.clip(5.5**2 - from_core**2, 0, None))
    return Relief(np.float32(height), _cover(from_core - 5.5, unit_px), BLACK_RUBBER, 0.0, 0.55)


def _cap(kind: str) -> Callable[[Map, Map, np.random.Generator, float], Relief]:
    def shape(u: Map, v: Map, rng: np.random.Generator, unit_px: float) -> Relief:
        radius, angle = np.hypot(u, v), np.arctan2(v, u)
        knurl = 0.9 * np.cos(36 * angle)  # the grip around the side
        side = radius - 44.0 - knurl
        top = 24.0 - np.clip(radius - 38.0, 0, None) ** 2 * 0.16
        rim = 2.2 * np.exp(-(((radius - 33.0) / 2.0) ** 2))
        boss = 3.0 * np.clip((15.0 - radius) / 2.0, 0, 1)
        slot = 3.4 * np.clip((2.6 - np.abs(v)) / 1.2, 0, 1) * (radius < 12.5)
        height = top + rim + boss - slot + 0.012 * _grain(u.shape, rng, 1.2, 1.2)
        return Relief(np.float32(height), _cover(side, unit_px), CAP_COLOURS[kind], 0.0, 0.45)

    return shape


def _screw(kind: str) -> Callable[[Map, Map, np.random.Generator, float], Relief]:
    half = screw_length(kind) / 2

    def shape(u: Map, v: Map, rng: np.random.Generator, unit_px: float) -> Relief:
        head_end, tip = -half + 19.0, half - 9.0
        taper = np.clip((u - tip) / 9.0, 0, 1) ** 1.4 * 8.0
        phase = float(rng.uniform(0, 2 * np.pi))
        thread = 0.75 * np.sin(2 * np.pi / 4.6 * (u + 0.28 * v) + phase) * (u > head_end + 6) * (u < tip + 6)
        core = 7.6 + thread - taper
        shaft = np.where((u >= head_end - 3) & (u <= half), np.sqrt(np.clip(core**2 - v**2, 0, None)) * (core > 0), 0)
        along = np.clip((u + half) / 19.0, 0, 1)  # a pan head, seen from the side
        swell = 17.0 * np.sqrt(np.clip(1 - (1 - along) ** 2.6, 0, 1))
        head = np.where((u >= -half) & (u <= head_end), np.sqrt(np.clip(swell**2 - v**2, 0, None)), 0)
        bulge = np.maximum(shaft, head)
        cover = np.clip(bulge * unit_px / 3.0, 0, 1)
        height = 9.0 + bulge + 0.04 * _grain(u.shape, rng, 1.0, 1.0)
        return Relief(np.float32(height), np.float32(cover), ZINC, 1.0, 0.7)

    return shape


_SHAPES: Mapping[str, Callable[[Map, Map, np.random.Generator, float], Relief]] = {
    "nut": _nut,
    "washer": _washer,
    "o_ring": _o_ring,
    "short_screw": _screw("short_screw"),
    "long_screw": _screw("long_screw"),
    **{kind: _cap(kind) for kind in CAP_COLOURS},
}

# Area seen from above in square tray units: what a saturation threshold of LOCO counts.
FOOTPRINTS: Mapping[str, float] = {
    "nut": 1296.0,
    "washer": 1799.0,
    "o_ring": 2281.0,
    "short_screw": 1575.0,
    "long_screw": 2424.0,
    **dict.fromkeys(CAP_COLOURS, 6082.0),
}
