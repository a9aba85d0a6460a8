"""Draws a scene: scene in, picture and stencils of its defects out.

The field is drawn at twice the resolution of the frame in the tray's own frame, turned and shifted to where the tray
lies, lit by a soft directional light with shadows cast along the field, a dome of ambient light with occlusion, and
an environment that bright metal mirrors; then averaged down, blurred, given photon and read noise, and quantised to 8
bits.
"""

from __future__ import annotations

from functools import lru_cache
from math import cos, pi, sin, tan
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lad_edge.datasets.synthetic_field import WORLD_HEIGHT, WORLD_WIDTH, Field, Map
from lad_edge.datasets.synthetic_marks import draw_mark
from lad_edge.datasets.synthetic_scene import COMPARTMENTS, Box, Look, Part, Scene, discs
from lad_edge.datasets.synthetic_shapes import relief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SUPERSAMPLING = 2
WALL_HEIGHT = 26.0
TRAY = Box(-284, -204, 284, 204)
_TRAY_COLOUR = np.array([0.118, 0.096, 0.082], np.float32)  # linear BGR
_BENCH_COLOUR = np.array([0.40, 0.41, 0.42], np.float32)


def render(scene: Scene, width_px: int = WORLD_WIDTH) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """The picture (H, W, 3) uint8 BGR, and one (H, W) stencil for each of `scene.marks`: the pixels that it changes."""
    field = _empty_tray(width_px).copy()
    for part in scene.parts:
        _lay(field, part)
    stencils = [draw_mark(field, mark) for mark in scene.marks]
    texture = np.random.default_rng([scene.look.seed, 1])
    seen = _seen(field, scene.look, texture)
    linear = _lit(seen, scene.look)
    size = (width_px, width_px * WORLD_HEIGHT // WORLD_WIDTH)
    picture = _photographed(cv2.resize(linear, size, interpolation=cv2.INTER_AREA), scene.look)
    return picture, [stencil_seen(stencil, scene.look, width_px) for stencil in stencils]


def compartment_stencil(names: Sequence[str], look: Look, width_px: int) -> NDArray[np.bool_]:
    """(H, W) pixels of these compartments as the camera sees them, with the inner slope of their walls."""
    field = _empty_tray(width_px)
    stencil = np.zeros(field.height.shape, np.float32)
    for name in names:
        stencil[_rounded_box(field, COMPARTMENTS[name], 10.0) < 6.0] = 1.0
    return stencil_seen(stencil, look, width_px)


def stencil_seen(stencil: Map, look: Look, width_px: int) -> NDArray[np.bool_]:
    """A stencil of the tray's frame (supersampled) as the camera sees it, at frame size."""
    turned = cv2.warpAffine(stencil, _pose(look, width_px), stencil.shape[::-1], flags=cv2.INTER_LINEAR)
    size = (width_px, width_px * WORLD_HEIGHT // WORLD_WIDTH)
    return np.asarray(cv2.resize(turned, size, interpolation=cv2.INTER_AREA) > 0.25)


def _rounded_box(field: Field, box: Box, radius: float) -> Map:
    """Signed distance to a box with rounded corners, negative inside, in tray units."""
    whole = slice(0, field.height.shape[0]), slice(0, field.height.shape[1])
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    u, v = field.local(*whole, x, y, 0.0)
    du = np.abs(u) - np.float32((box.right - box.left) / 2 - radius)
    dv = np.abs(v) - np.float32((box.bottom - box.top) / 2 - radius)
    outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
    return np.asarray(outside + np.minimum(np.maximum(du, dv), 0) - np.float32(radius), np.float32)


@lru_cache(maxsize=2)
def _empty_tray(width_px: int) -> Field:
    unit_px = SUPERSAMPLING * width_px / WORLD_WIDTH
    shape = (round(WORLD_HEIGHT * unit_px), round(WORLD_WIDTH * unit_px))
    height, metal, gloss = np.zeros((3, *shape), np.float32)
    field = Field(height, np.zeros((*shape, 3), np.float32), metal, gloss, unit_px)
    inside = np.min([_rounded_box(field, box, 10.0) for box in COMPARTMENTS.values()], axis=0)
    rim = _rounded_box(field, TRAY, 20.0)
    wall = WALL_HEIGHT * np.clip(inside / 6.0, 0, 1)
    wall -= 1.5 * np.clip(1.5 - np.abs(inside - 7.5), 0, 1)  # a rounded lip
    skirt = WALL_HEIGHT * np.clip(-rim / 9.0, 0, 1)  # the outer side slopes down to the bench
    field.height[:] = np.where(rim < 0, np.minimum(wall, skirt), -8.0)
    on_tray = np.clip(0.5 - rim * unit_px, 0, 1)[..., None]
    field.colour[:] = on_tray * _TRAY_COLOUR + (1 - on_tray) * _BENCH_COLOUR
    field.gloss[:] = 0.22 * on_tray[..., 0]
    return field


def _lay(field: Field, part: Part) -> None:
    rng = np.random.default_rng(part.seed)
    reach = max(abs(x) + r for x, _, r in discs(part.kind)) + 4
    rows, columns = field.window(part.x, part.y, reach)
    made = relief(part.kind, *field.local(rows, columns, part.x, part.y, part.angle), rng, field.unit_px)
    cover = made.cover
    height = field.height[rows, columns]
    field.height[rows, columns] = np.where(cover > 0.5, np.maximum(height, made.height), height)
    field.colour[rows, columns] += cover[..., None] * (np.array(made.colour, np.float32) - field.colour[rows, columns])
    field.metal[rows, columns] += cover * (made.metal - field.metal[rows, columns])
    field.gloss[rows, columns] += cover * (made.gloss - field.gloss[rows, columns])


def _pose(look: Look, width_px: int) -> NDArray[np.float64]:
    unit_px = SUPERSAMPLING * width_px / WORLD_WIDTH
    centre = (WORLD_WIDTH * unit_px / 2, WORLD_HEIGHT * unit_px / 2)
    matrix = cv2.getRotationMatrix2D(centre, look.turn * 180 / pi, 1.0)
    matrix[:, 2] += (look.shift_x * unit_px, look.shift_y * unit_px)
    return np.asarray(matrix, np.float64)


def _seen(field: Field, look: Look, rng: np.random.Generator) -> Field:
    """The field where the tray lies in this picture, with the grain of its plastic and of the bench."""
    width_px = round(field.height.shape[1] / SUPERSAMPLING)
    pose, size = _pose(look, width_px), field.height.shape[::-1]

    def turn(values: Map) -> Map:
        return np.asarray(
            cv2.warpAffine(values, pose, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
        )

    stack = turn(np.dstack([field.height, field.metal, field.gloss]))
    height, metal, gloss = (np.ascontiguousarray(stack[..., i]) for i in range(3))
    grain = cv2.GaussianBlur(rng.standard_normal(height.shape, dtype=np.float32), (0, 0), 1.1)
    mottle = rng.standard_normal((30, 40), dtype=np.float32)
    mottle = cv2.resize(mottle, size, interpolation=cv2.INTER_CUBIC)
    matt = 1 - metal
    height = cv2.GaussianBlur(height, (0, 0), 0.8) + matt * (0.10 * grain)
    colour = turn(field.colour) * (1 + matt * (0.025 * mottle + 0.07 * grain))[..., None]
    return Field(height, colour, metal, gloss, field.unit_px)


def _lit(field: Field, look: Look) -> Map:
    """Linear BGR radiance (H, W, 3) of the field under this picture's light."""
    height, scale = field.height, 0.5 * field.unit_px
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=1, scale=scale)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=1, scale=scale)
    nz = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    nx, ny = -slope_x * nz, -slope_y * nz
    light = _direction(look.light_azimuth, look.light_elevation)
    open_sky, sun = _occlusion(field), _shadow(field, look)
    facing = np.maximum(nx * light[0] + ny * light[1] + nz * light[2], 0)
    diffuse = field.colour * (0.42 * open_sky + 1.15 * sun * facing)[..., None]
    half = _half_way(light)
    shine = np.maximum(nx * half[0] + ny * half[1] + nz * half[2], 0) ** 36 * field.gloss * sun * 0.5
    mirrored = _environment(nx, ny, nz, light) * (0.35 + 0.65 * open_sky) * (0.55 + 0.45 * sun)
    metal = field.metal[..., None]
    return np.asarray(
        (1 - metal) * (diffuse + shine[..., None]) + metal * field.colour * mirrored[..., None], np.float32
    )


def _direction(azimuth: float, elevation: float) -> NDArray[np.float32]:
    return np.array([cos(azimuth) * cos(elevation), sin(azimuth) * cos(elevation), sin(elevation)], dtype=np.float32)


def _half_way(light: NDArray[np.float32]) -> NDArray[np.float32]:
    half = light + np.array([0, 0, 1], np.float32)
    return np.asarray(half / np.linalg.norm(half), np.float32)


def _environment(nx: Map, ny: Map, nz: Map, light: NDArray[np.float32]) -> Map:
    """What a mirror with this normal shows a camera above it: a lamp, a window on the other side, a dark horizon."""
    rx, ry, rz = 2 * nz * nx, 2 * nz * ny, 2 * nz * nz - 1
    lamp = np.exp((rx * light[0] + ry * light[1] + rz * light[2] - 1) * 5.0)
    window = np.exp((rx * -0.62 + ry * 0.35 + rz * 0.70 - 1) * 9.0)
    ceiling = np.clip(rz, 0, 1) * (0.30 + 0.9 * (0.45 * rx - 0.55 * ry))
    return np.asarray(np.maximum(0.05 + ceiling + 1.25 * lamp + 0.35 * window, 0.02), np.float32)


def _occlusion(field: Field) -> Map:
    """How much of the sky each point sees, 0..1, from how deep it lies below its surroundings at two scales."""
    small = cv2.resize(field.height, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    near = cv2.GaussianBlur(small, (0, 0), 0.9 * field.unit_px)
    wide = cv2.GaussianBlur(small, (0, 0), 2.6 * field.unit_px)
    depth = 0.045 * np.maximum(near - small, 0) + 0.035 * np.maximum(wide - small, 0)
    sky = cv2.resize(1 - np.clip(depth, 0, 0.8), field.height.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(sky, np.float32)


def _shadow(field: Field, look: Look) -> Map:
    """1 where the light arrives, 0 in full shadow: walks the field towards the light; the penumbra widens."""
    height = cv2.resize(field.height, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    px = field.unit_px / 2
    rise = tan(look.light_elevation)
    blocked = np.zeros_like(height)
    for step in np.arange(1.5, 34.0, 1.5):
        shift = np.array([[1, 0, cos(look.light_azimuth) * step * px], [0, 1, sin(look.light_azimuth) * step * px]])
        towards = cv2.warpAffine(
            height,
            shift,
            height.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        over = (towards - height - rise * step) / (1.0 + 0.12 * step)
        np.maximum(blocked, np.clip(over, 0, 1), out=blocked)
    soft = cv2.GaussianBlur(blocked, (0, 0), 0.9 * px)
    return np.asarray(1 - cv2.resize(soft, field.height.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _photographed(linear: Map, look: Look) -> NDArray[np.uint8]:
    """Linear radiance to an 8-bit frame: uneven light, vignette, lens blur, photon and read noise, tone curve."""
    h, w = linear.shape[:2]
    x = np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    field = look.exposure * (1 + look.slope_x * x + look.slope_y * y) * (1 - 0.10 * (x**2 + y**2))
    balance = np.array([look.white_blue, 1.0, look.white_red], np.float32)
    exposed = cv2.GaussianBlur(linear * field[..., None] * balance, (0, 0), look.blur_px * w / WORLD_WIDTH)
    rng = np.random.default_rng([look.seed, 2])
    noise = rng.standard_normal(linear.shape, dtype=np.float32)
    exposed = exposed + look.noise * noise * np.sqrt(np.maximum(exposed, 0) * 4.5e-5 + 3e-7)
    return np.asarray(np.clip(255 * _tone(np.maximum(exposed, 0)), 0, 255) + 0.5, np.uint8)


def _tone(linear: Map) -> Map:
    """Camera curve: gamma 2.2 with a soft shoulder, so that highlights roll off before they clip."""
    rolled = np.where(linear < 0.6, linear, 0.6 + 0.4 * np.tanh((linear - 0.6) / 0.4))
    return np.asarray(rolled ** (1 / 2.2), np.float32)
