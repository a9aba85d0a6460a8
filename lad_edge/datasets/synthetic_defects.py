"""What can go wrong with the synthetic kit: each defect type turns a good scene into a bad one and says where to look.

Masks follow MVTec LOCO (Bergmann et al., IJCV 2022, section 4): a logical defect marks every place where it could be
put right, and its saturation threshold says how much of that suffices (the area of the part in question); a
structural defect marks itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import pi

import numpy as np

from lad_edge.datasets.synthetic_scene import NUTS, VARIANTS, WASHERS, Mark, Part, Scene, place
from lad_edge.datasets.synthetic_shapes import FOOTPRINTS

LOGICAL, STRUCTURAL = "logical_anomalies", "structural_anomalies"
Spoil = Callable[[Scene, np.random.Generator], Scene]


@dataclass(frozen=True)
class DefectType:
    """One entry of defects_config.json, and how such a defect comes about.

    channels: the compartments that each mask channel of a logical defect marks; empty for a structural one, which
    marks itself. saturation_units: area in square tray units that saturates a channel; None: all of it (relative
    1.0).
    """

    name: str
    label: str
    family: str
    pixel_value: int
    spoil: Spoil
    channels: tuple[tuple[str, ...], ...] = ()
    saturation_units: float | None = None


def _with(scene: Scene, compartment: str, parts: Sequence[Part]) -> Scene:
    others = tuple(part for part in scene.parts if part.compartment != compartment)
    return replace(scene, parts=(*others, *parts))


def _inside(scene: Scene, compartment: str) -> list[Part]:
    return [part for part in scene.parts if part.compartment == compartment]


def _missing(compartment: str) -> Spoil:
    """One part of the compartment, any of them, is not there."""

    def spoil(scene: Scene, rng: np.random.Generator) -> Scene:
        there = _inside(scene, compartment)
        there.pop(int(rng.integers(len(there))))
        return _with(scene, compartment, there)

    return spoil


def _extra(compartment: str, kinds: Sequence[str]) -> Spoil:
    """One part more, of one of these kinds; the others are laid anew so that there is room."""

    def spoil(scene: Scene, rng: np.random.Generator) -> Scene:
        wanted = [*(part.kind for part in _inside(scene, compartment)), str(rng.choice(kinds))]
        return _with(scene, compartment, place(rng, compartment, wanted, scene.freedom))

    return spoil


def _swapped(one: str, other: str) -> Spoil:
    """The contents of two compartments have changed places."""

    def spoil(scene: Scene, rng: np.random.Generator) -> Scene:
        kinds = {name: [part.kind for part in _inside(scene, name)] for name in (one, other)}
        scene = _with(scene, one, place(rng, one, kinds[other], scene.freedom))
        return _with(scene, other, place(rng, other, kinds[one], scene.freedom))

    return spoil


def _wrong_combination(scene: Scene, rng: np.random.Generator) -> Scene:
    """Two screws, but those of another variant than the cap's: every part is a good one in a good place."""
    wrong = [screws for variant, screws in VARIANTS.items() if variant != scene.variant]
    screws = wrong[int(rng.integers(len(wrong)))]
    return _with(scene, "screws", place(rng, "screws", screws, scene.freedom))


def _wrong_count(compartment: str, kind: str, right: int) -> Spoil:
    """One or two too few, or one too many."""

    def spoil(scene: Scene, rng: np.random.Generator) -> Scene:
        count = int(rng.choice((right - 2, right - 1, right + 1)))
        return _with(scene, compartment, place(rng, compartment, [kind] * count, scene.freedom))

    return spoil


def _marked(kind: str) -> Spoil:
    """One defect of this kind, now and then two."""

    def spoil(scene: Scene, rng: np.random.Generator) -> Scene:
        count = 2 if rng.random() < 0.2 else 1
        return replace(scene, marks=tuple(_draw_mark(kind, scene, rng) for _ in range(count)))

    return spoil


_SIZES = {"scratch": (22.0, 62.0), "stain": (14.0, 34.0), "dent": (11.0, 19.0), "crack": (20.0, 46.0)}
# Edges of the tray, from (x, y) to (x, y): that is where a knock leaves a dent.
_EDGES = (
    ((-276, -190), (-276, 190)),
    ((276, -190), (276, 190)),
    ((-260, -196), (260, -196)),
    ((-260, 196), (260, 196)),
    ((-80, -180), (-80, 180)),
    ((76, -180), (76, 180)),
    ((-260, 0), (-96, 0)),
    ((-64, -20), (60, -20)),
)


def _draw_mark(kind: str, scene: Scene, rng: np.random.Generator) -> Mark:
    x, y = _edge_point(rng) if kind == "dent" else _surface_point(scene, rng)
    size = float(rng.uniform(*_SIZES[kind]))
    severity = float(rng.uniform(0.35, 1.0))
    return Mark(kind, x, y, float(rng.uniform(0, 2 * pi)), size, severity, int(rng.integers(2**31)))


def _edge_point(rng: np.random.Generator) -> tuple[float, float]:
    (x0, y0), (x1, y1) = _EDGES[int(rng.integers(len(_EDGES)))]
    t = rng.random()
    return float(x0 + t * (x1 - x0)), float(y0 + t * (y1 - y0))


def _surface_point(scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    """Anywhere on the tray; one time in four on the cap."""
    if rng.random() < 0.25:
        cap = _inside(scene, "cap")[0]
        return cap.x + float(rng.uniform(-18, 18)), cap.y + float(rng.uniform(-18, 18))
    return float(rng.uniform(-235, 235)), float(rng.uniform(-155, 155))


def _area(kind: str, count: int = 1) -> float:
    return count * FOOTPRINTS[kind]


_CAP, _SCREW = _area("red_cap"), _area("short_screw")
_ANY_SCREW = ("short_screw", "long_screw")
DEFECT_TYPES: tuple[DefectType, ...] = (
    DefectType("missing_cap", LOGICAL, "missing", 255, _missing("cap"), (("cap",),), _CAP),
    DefectType("missing_o_ring", LOGICAL, "missing", 254, _missing("ring"), (("ring",),), _area("o_ring")),
    DefectType("missing_screw", LOGICAL, "missing", 253, _missing("screws"), (("screws",),), _SCREW),
    DefectType("extra_o_ring", LOGICAL, "extra", 252, _extra("ring", ["o_ring"]), (("ring",),), _area("o_ring")),
    DefectType("extra_screw", LOGICAL, "extra", 251, _extra("screws", _ANY_SCREW), (("screws",),), _SCREW),
    DefectType("extra_nut", LOGICAL, "extra", 250, _extra("ring", ["nut"]), (("ring",),), _area("nut")),
    DefectType(
        "swapped_nuts_and_washers",
        LOGICAL,
        "swapped",
        249,
        _swapped("nuts", "washers"),
        (("nuts",), ("washers",)),
        _area("nut", NUTS),
    ),
    DefectType(
        "swapped_cap_and_o_ring",
        LOGICAL,
        "swapped",
        248,
        _swapped("cap", "ring"),
        (("cap",), ("ring",)),
        _area("o_ring"),
    ),
    DefectType(
        "wrong_combination", LOGICAL, "wrong_combination", 247, _wrong_combination, (("cap", "screws"),), _SCREW
    ),
    DefectType(
        "wrong_count_nuts", LOGICAL, "wrong_count", 246, _wrong_count("nuts", "nut", NUTS), (("nuts",),), _area("nut")
    ),
    DefectType(
        "wrong_count_washers",
        LOGICAL,
        "wrong_count",
        245,
        _wrong_count("washers", "washer", WASHERS),
        (("washers",),),
        _area("washer"),
    ),
    *(
        DefectType(kind, STRUCTURAL, kind, 244 - i, _marked(kind))
        for i, kind in enumerate(("scratch", "stain", "dent", "crack"))
    ),
)


def nth_defect(label: str, index: int) -> DefectType:
    """The type of the index-th image of this label: families in turn, and inside a family its types in turn."""
    types = [defect for defect in DEFECT_TYPES if defect.label == label]
    families = list(Counter(defect.family for defect in types))
    members = [defect for defect in types if defect.family == families[index % len(families)]]
    return members[index // len(families) % len(members)]
