"""What the papers report, for the tables of `benchmark-detectors`: image AUROC in percent (methods card §9).

(logical, structural) for MVTec LOCO where the paper separates them, else one number over all anomalies. Other trainings, teachers and
resolutions: these numbers say what is possible, not what this machine should reproduce in minutes.
"""

from __future__ import annotations

Published = tuple[float, float] | float

PUBLISHED: dict[str, dict[str, Published]] = {
    "efficient_ad": {  # size S
        "breakfast_box": (82.4, 86.2),
        "screw_bag": (58.1, 89.4),
        "pushpins": (98.2, 97.3),
        "splicing_connectors": (93.0, 97.9),
        "juice_bottle": (96.7, 99.8),
    },
    "dfsc": {
        "breakfast_box": (84.6, 85.3),
        "screw_bag": (67.9, 92.4),
        "pushpins": (99.8, 95.6),
        "splicing_connectors": (96.9, 98.1),
        "juice_bottle": (99.9, 99.9),
    },
    "ulsad": {
        "breakfast_box": 83.54,
        "juice_bottle": 97.12,
        "pushpins": 86.85,
        "screw_bag": 70.71,
        "splicing_connectors": 82.30,
        "bottle": 100.0,
        "cable": 97.92,
        "capsule": 94.61,
        "carpet": 98.50,
        "grid": 92.67,
        "hazelnut": 99.93,
        "leather": 100.0,
        "metal_nut": 98.88,
        "pill": 96.17,
        "screw": 95.20,
        "tile": 99.99,
        "toothbrush": 100.0,
        "transistor": 97.65,
        "wood": 98.81,
        "zipper": 94.36,
        "01": 100.0,
        "02": 88.5,
        "03": 100.0,
    },
    "fod": {
        "carpet": 100.0,
        "grid": 100.0,
        "leather": 100.0,
        "tile": 100.0,
        "wood": 99.1,
        "bottle": 100.0,
        "cable": 99.5,
        "capsule": 100.0,
        "hazelnut": 100.0,
        "metal_nut": 100.0,
        "pill": 98.4,
        "screw": 96.7,
        "toothbrush": 94.4,
        "transistor": 100.0,
        "zipper": 99.7,
        "01": 99.5,
        "02": 86.4,
        "03": 100.0,
        "bagel": 94.0,
        "cable_gland": 95.2,
        "carrot": 91.1,
        "cookie": 84.4,
        "dowel": 98.7,
        "foam": 84.4,
        "peach": 84.3,
        "potato": 66.2,
        "rope": 99.2,
        "tire": 86.4,
    },
    "ladmim": {
        "breakfast_box": (86.2, 81.0),
        "juice_bottle": (99.0, 98.8),
        "pushpins": (73.5, 85.9),
        "screw_bag": (58.1, 86.7),
        "splicing_connectors": (88.0, 90.0),
    },
}


def shown(detector: str, category: str) -> str:
    """As the tables print it: a dash where the paper has no number."""
    value = PUBLISHED.get(detector, {}).get(category)
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return f"{value[0] / 100:.3f} logical, {value[1] / 100:.3f} structural"
    return f"{value / 100:.3f}"
