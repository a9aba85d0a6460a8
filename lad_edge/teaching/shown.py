"""What a lesson keeps of the parts that were shown to it, and what it takes over from an engine that was taught before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.errors import UsageError
from lad_edge.scoring import thumbnails
from lad_edge.teaching.options import DETECTOR, Options
from lad_edge.teaching.stored import unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lad_edge.bundle import Bundle

TWIN = 0.02  # of the usual distance between two parts: nearer ones are one part shown twice


@dataclass
class Shown:
    """What is kept of the parts: names, cells, thumbnails (b"" for a part without), and one picture for the self-test."""

    names: list[str] = field(default_factory=list)
    cells: list[NDArray[np.float32]] = field(default_factory=list)
    thumbnails: list[bytes] = field(default_factory=list)
    picture: NDArray[np.uint8] | None = None
    pixel_format: str = ""


def continued(options: Options, taught: Bundle) -> tuple[Options, Shown, str]:
    """Options, parts and precision of a taught engine; new words of the user win where they may differ."""
    manifest = taught.manifest
    if manifest.detector != DETECTOR:
        raise UsageError(f"{taught.path}: expected an engine made by 'lad-edge teach', this is {manifest.detector}")
    name, side = manifest.provenance["backbone"], manifest.contract.size[0]
    if options.backbone not in (None, name) or options.side not in (None, side):
        raise UsageError(f"{taught.path} was taught with {name} at {side} px; teach it anew from all pictures")
    names = [str(name) for name in manifest.parameters["parts"]]  # type: ignore[union-attr]
    cells = unpack(taught.tensors["taught/cells"], taught.tensors["taught/ranges"])
    jpegs = thumbnails.unpack(taught.tensors, len(names))
    kept = options.thumbnails and bool(jpegs)  # who did not want pictures in the engine does not want them now
    pictures = jpegs if kept else [b""] * len(names)
    shown = Shown(names, list(cells), pictures, taught.golden_frames[0].copy(), manifest.contract.pixel_format)
    precision = next(iter(manifest.calibrations))
    if options.precision not in (None, precision):
        raise UsageError(f"{taught.path} was taught in {precision}; leave --precision out, or teach it anew")
    goes_on = Options(
        name=manifest.name,
        runtime=options.runtime,
        threads=options.threads,
        policy=options.policy,
        thumbnails=kept,
        gates=options.gates and manifest.gates is not None,
    )
    return goes_on, shown, precision


def twins(cells: NDArray[np.float32], names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of parts whose cells lie much nearer to each other than parts usually do."""
    flat = cells.reshape(len(cells), -1).astype(np.float64)
    flat -= flat.mean(0)
    squares = np.square(flat).sum(1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * flat @ flat.T, 0))
    pairs = np.triu_indices(len(cells), 1)
    close = apart[pairs] <= TWIN * float(np.median(apart[pairs]))
    return [(names[int(i)], names[int(j)]) for i, j in np.transpose(pairs)[close]]
