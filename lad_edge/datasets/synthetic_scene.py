"""What lies on a synthetic tray and what must lie there: the rules of the product, and one scene drawn from a seed.

The product is a hardware kit: a tray with five compartments. Lengths are in tray units: 1 unit is 1 pixel of a 640 x
480 frame; the origin is the middle of the tray, x to the right, y downwards.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import cos, hypot, pi, sin
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Box:
    """A compartment's floor: left, top, right, bottom in tray units."""

    left: float
    top: float
    right: float
    bottom: float


COMPARTMENTS: Mapping[str, Box] = {
    "nuts": Box(-268, -188, -88, -8),
    "washers": Box(-268, 8, -88, 188),
    "cap": Box(-72, -188, 68, -28),
    "ring": Box(-72, -12, 68, 188),
    "screws": Box(84, -188, 268, 188),
}

# The rule that no single patch shows: the colour of the cap says which screws belong to the kit.
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "red": ("short_screw", "short_screw"),
    "blue": ("long_screw", "long_screw"),
    "yellow": ("short_screw", "long_screw"),
}
CAPS = tuple(f"{variant}_cap" for variant in VARIANTS)
NUTS, WASHERS = 3, 4

# Where the parts of a compartment lie when they may not lie anywhere: (x, y) for each.
_SLOTS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "nuts": ((-224, -140), (-132, -140), (-178, -56)),
    "washers": ((-224, 53), (-132, 53), (-224, 143), (-132, 143)),
    "cap": ((-2, -108),),
    "ring": ((-2, 88),),
    "screws": ((132, 0), (220, 0)),
}

# Discs that cover each kind in its own frame: (x, y, radius); they keep parts apart and inside their compartment.
_SCREW_LENGTH = {"short_screw": 92.0, "long_screw": 148.0}


def screw_length(kind: str) -> float:
    """Length of a screw with its head, in tray units."""
    return _SCREW_LENGTH[kind]


def discs(kind: str) -> tuple[tuple[float, float, float], ...]:
    """Discs (x, y, radius) that cover a part of this kind, in the part's own frame, before its rotation."""
    if kind in _SCREW_LENGTH:
        half = _SCREW_LENGTH[kind] / 2
        shaft = tuple((float(x), 0.0, 11.0) for x in np.linspace(-half + 30, half - 11, 8))
        return ((-half + 11, 0.0, 19.0), *shaft)
    return ((0.0, 0.0, {"nut": 28.0, "washer": 30.0, "o_ring": 41.0}.get(kind, 49.0)),)


@dataclass(frozen=True)
class Part:
    """One part on the tray: its kind, where it lies (tray units, radians), and the seed of its own look."""

    kind: str
    compartment: str
    x: float
    y: float
    angle: float
    seed: int


@dataclass(frozen=True)
class Mark:
    """One structural defect on the tray: scratch, stain, dent or crack; size in tray units, severity in (0, 1]."""

    kind: str
    x: float
    y: float
    angle: float
    size: float
    severity: float
    seed: int


@dataclass(frozen=True)
class Look:
    """Everything about a picture that is not the product: pose of the tray, light, lens and sensor."""

    shift_x: float
    shift_y: float
    turn: float
    light_azimuth: float
    light_elevation: float
    exposure: float
    slope_x: float
    slope_y: float
    white_red: float
    white_blue: float
    blur_px: float
    noise: float
    seed: int


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn. freedom: see `place`."""

    variant: str
    parts: tuple[Part, ...]
    look: Look
    marks: tuple[Mark, ...] = ()
    freedom: float = 1.0


def draw_scene(layout: np.random.Generator, look: np.random.Generator, freedom: float = 1.0) -> Scene:
    """A good kit: variant and positions from `layout`, pose, light and camera from `look`."""
    variant = list(VARIANTS)[int(layout.integers(len(VARIANTS)))]
    wanted = {
        "nuts": ["nut"] * NUTS,
        "washers": ["washer"] * WASHERS,
        "cap": [f"{variant}_cap"],
        "ring": ["o_ring"],
        "screws": list(VARIANTS[variant]),
    }
    parts = [part for name, kinds in wanted.items() for part in place(layout, name, kinds, freedom)]
    return Scene(variant, tuple(parts), draw_look(look), freedom=freedom)


def draw_look(rng: np.random.Generator) -> Look:
    """Pose, light and camera of one picture, inside what a fixed station with hand-laid trays would show."""
    return Look(
        shift_x=float(rng.uniform(-8, 8)),
        shift_y=float(rng.uniform(-6, 6)),
        turn=float(rng.uniform(-0.026, 0.026)),
        light_azimuth=float(rng.normal(-2.2, 0.12)),
        light_elevation=float(rng.normal(0.92, 0.04)),
        exposure=float(rng.normal(1.0, 0.045)),
        slope_x=float(rng.normal(0.06, 0.05)),
        slope_y=float(rng.normal(0.05, 0.05)),
        white_red=float(rng.normal(1.0, 0.012)),
        white_blue=float(rng.normal(1.0, 0.012)),
        blur_px=float(rng.uniform(0.35, 0.75)),
        noise=float(rng.uniform(0.7, 1.3)),
        seed=int(rng.integers(2**31)),
    )


def place(rng: np.random.Generator, compartment: str, kinds: Sequence[str], freedom: float = 1.0) -> tuple[Part, ...]:
    """Lays parts of these kinds in the compartment so that none touches another.

    freedom: 1: anywhere; below 1: around fixed slots, by at most this share of the compartment's size either way, and
    screws turned by this share of 40 degrees at most; more parts than slots: anywhere that is left. Raises DataError when they do not fit.
    """
    for attempt in range(200):
        if attempt == 20:  # an extra part may leave no room around the slots
            freedom = 1.0
        regions = _regions(rng, compartment, freedom)
        placed: list[Part] = []
        for kind in sorted(kinds, key=lambda kind: kind != "long_screw"):  # the longest first: it needs the room
            region = regions.pop() if regions else COMPARTMENTS[compartment]
            part = _free_spot(rng, compartment, kind, placed, region, freedom)
            if part is None:
                break
            placed.append(part)
        if len(placed) == len(kinds):
            return tuple(placed)
    raise DataError(f"expected room for {list(kinds)} in compartment '{compartment}', found none; take another seed")


def _regions(rng: np.random.Generator, compartment: str, freedom: float) -> list[Box]:
    """One region for each slot, in an order drawn anew, so that any slot may be the empty one; none with full freedom."""
    if freedom >= 1:
        return []
    box, slots = COMPARTMENTS[compartment], _SLOTS[compartment]
    reach_x, reach_y = freedom * (box.right - box.left) / 2, freedom * (box.bottom - box.top) / 2
    ordered = (slots[i] for i in rng.permutation(len(slots)))
    return [Box(x - reach_x, y - reach_y, x + reach_x, y + reach_y) for x, y in ordered]


def _free_spot(
    rng: np.random.Generator, compartment: str, kind: str, others: Sequence[Part], region: Box, freedom: float
) -> Part | None:
    for _ in range(60):
        x, y = rng.uniform(region.left, region.right), rng.uniform(region.top, region.bottom)
        part = Part(kind, compartment, float(x), float(y), _angle(rng, kind, freedom), int(rng.integers(2**31)))
        if _inside(part, COMPARTMENTS[compartment]) and not any(_touch(part, other) for other in others):
            return part
    return None


def _angle(rng: np.random.Generator, kind: str, freedom: float) -> float:
    """Screws lie lengthwise, head up or down, give or take 40 degrees; round parts lie as they fell."""
    if kind in _SCREW_LENGTH:
        return float(pi / 2 * rng.choice((-1.0, 1.0)) + freedom * rng.uniform(-0.7, 0.7))
    return float(rng.uniform(0, 2 * pi))


def _world_discs(part: Part) -> list[tuple[float, float, float]]:
    c, s = cos(part.angle), sin(part.angle)
    return [(part.x + c * x - s * y, part.y + s * x + c * y, r) for x, y, r in discs(part.kind)]


def _inside(part: Part, box: Box) -> bool:
    return all(
        box.left + r <= x <= box.right - r and box.top + r <= y <= box.bottom - r for x, y, r in _world_discs(part)
    )


def _touch(part: Part, other: Part) -> bool:
    theirs = _world_discs(other)
    return any(hypot(x - u, y - v) < r + q for x, y, r in _world_discs(part) for u, v, q in theirs)


def broken_rules(parts: Sequence[Part]) -> list[str]:
    """What is wrong with the kit, in words; empty for a good one."""
    inside = {name: Counter(p.kind for p in parts if p.compartment == name) for name in COMPARTMENTS}
    faults = []
    if inside["nuts"] != Counter(nut=NUTS):
        faults.append(f"nuts: expected {NUTS} nuts, found {dict(inside['nuts'])}")
    if inside["washers"] != Counter(washer=WASHERS):
        faults.append(f"washers: expected {WASHERS} washers, found {dict(inside['washers'])}")
    if inside["ring"] != Counter(o_ring=1):
        faults.append(f"ring: expected one O-ring, found {dict(inside['ring'])}")
    allowed = [(Counter({f"{v}_cap": 1}), Counter(screws)) for v, screws in VARIANTS.items()]
    if (inside["cap"], inside["screws"]) not in allowed:
        faults.append(f"cap and screws do not belong together: {dict(inside['cap'])}, {dict(inside['screws'])}")
    return faults
