"""Names and ready recipes, without torch: the command line lists them before anything heavy is imported.

"paper" is every configuration's default. "cpu" is what two cores finish in ten to twenty minutes: small networks, a high learning rate,
and a cosine that brings it down. EfficientAD sees single images, many of them; DFSC batches, of which the student sees two images.
"""

from __future__ import annotations

from typing import Any

SCHEDULES = ("step", "cosine")
SIZES = ("xs", "s", "m")

_PDN_CPU = {"size": "xs", "schedule": "cosine"}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "efficient_ad": {"paper": {}, "cpu": _PDN_CPU | {"steps": 10_000, "learning_rate": 1.5e-3}},
    "dfsc": {"paper": {}, "cpu": _PDN_CPU | {"steps": 2600, "batch": 8, "student_batch": 2, "learning_rate": 5e-3}},
    "ulsad": {
        "paper": {},
        "cpu": {"decoder": "projected", "steps": 800, "learning_rate": 1e-3, "schedule": "cosine"},
    },
    "fod": {
        "paper": {},
        "cpu": {
            "width_fine": 128,
            "width_coarse": 256,
            "heads": 4,
            "steps": 1500,
            "learning_rate": 5e-4,
            "schedule": "cosine",
        },
    },
    "ladmim": {
        "paper": {},
        "cpu": {
            "size": "xs",
            "width": 96,
            "heads": 3,
            "feed_forward": 256,
            "entries": 128,
            "code_width": 32,
            "dropout": 0.0,
            "patience_epochs": 1,
            "steps": 800,
            "batch": 4,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "mim_width": 128,
            "mim_heads": 4,
            "mim_layers": 3,
            "mim_steps": 600,
            "mim_batch": 8,
            "mim_learning_rate": 1e-3,
            "layer_scale": 0.1,
            "test_masks": 8,
        },
    },
}
DETECTORS = tuple(PRESETS)
