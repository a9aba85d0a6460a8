"""Words of `lad-edge teach` go in; what the lesson is told comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lad_edge.images import read_image_8bit
from lad_edge.teaching import Options, default_policy
from lad_edge.thresholds import parse_policy
from lad_edge.views import as_grey

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from lad_edge.bundle import Bundle


def lesson_options(args: argparse.Namespace, taught: Bundle | None) -> Options:
    """How the user wants to teach; taught: the engine of --add."""
    return Options(
        name=args.name or args.out.stem,
        backbone=args.backbone,
        side=args.side,
        runtime=args.runtime,
        precision=args.precision,
        threads=args.threads,
        policy=policy_for(args.policy, taught),
        roi=args.roi,
        thumbnails=not args.no_thumbnails,
        gates=not args.no_gates,
        register=args.register,
        mask=None if args.mask is None else _read_mask(args.mask),
    )


def _read_mask(path: Path) -> NDArray[np.bool_]:
    """(H, W): where its picture is nearer to white than to black. Raises DataError."""
    return as_grey(read_image_8bit(path)) > 127


def policy_for(text: str | None, taught: Bundle | None) -> tuple[str, float] | None:
    """The user's; else the one that was chosen for the engine of --add, unless it is the default for its parts."""
    if text is not None:
        return parse_policy(text)
    if taught is None:
        return None
    before = next(iter(taught.manifest.calibrations.values())).policy
    chosen = before.name, before.value
    return None if chosen == default_policy(before.n) else chosen
