"""LADMIM at the edge: frame → features and tokens → codes → rebuilt features, predictions under masks → two scores (methods card §6.5).

The map has the scale of the total score, so that one threshold serves both. The stronger branch is drawn with the other one's score
added if that is positive, the weaker branch as it is, and each place shows the larger of the two; no place shows more than its branch
scores. A part that is rejected thus has a place above the threshold, but for the little by which enlarging flattens a peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import (
    Codebook,
    Quantizer,
    distance_map,
    pack_masks,
    project_maps,
)
from lad_edge.kernels.resampling import bilinear
from lad_edge.scoring.base import FrameScorer, Setup
from lad_edge.scoring.counts import Expectations
from lad_edge.scoring.targets import Shown, open_target
from lad_edge.values import Scores

ENCODE, DECODE, MIM = "encode", "decode", "mim"
PARAMETERS = (
    "channels",
    "code_width",
    "entries",
    "levels",
    "mask_statistics",
    "masks",
    "memory_width",
    "psi",
    "side",
    "structural_score",
    "target",
    "width",
)
WINDOW = 16  # px, side of the mean that takes single cells out of the structural score (L-7)
MARGIN = 2  # cells between the picture's edge and the first token: the teacher sees whole patches only


class LadmimScorer(FrameScorer):
    """Preprocess, three graphs, nearest codes, predictions under fixed masks, a distance map.

    parameters: `channels` of the features, `side` of the token grid, `width` of the tokens, `levels`, `entries`, `code_width` and `psi`
    of the codebooks, `memory_width` of the decoder, number of `masks`, `target` of the predictions, `structural_score` (L-7) and
    `mask_statistics`. tables: `ladmim/masks`, `ladmim/ranges`, `ladmim/places`, `ladmim/first` and those of the codebooks
    (`book_tables`). normalisation: per branch mean and mean + standard deviation over good validation images (L-8), see `branches`.
    """

    def __init__(self, setup: Setup) -> None:
        setup.expect(PARAMETERS)
        super().__init__(setup)
        p, self.pixels = setup.parameters, setup.contract.size[0]
        channels, side, levels, entries = (int(p[key]) for key in ("channels", "side", "levels", "entries"))
        count, tokens = int(p["masks"]), side * side
        self.structural_score = str(p["structural_score"])
        self.quantise = Quantizer(*_codebooks(setup))
        masks = setup.table(table_name("masks"), np.uint8, (count, tokens)) != 0
        self.expected = Expectations(
            setup.table(table_name("ranges"), np.int32, (2, count, levels, entries)),
            setup.table(table_name("places"), np.int32, (levels, entries, 4)),
            pack_masks(masks),
            side,
        )
        self.features, self.rebuilt = (np.zeros((1, channels, side, side), np.float32) for _ in range(2))
        self.tokens = np.zeros((1 + levels, tokens, int(p["width"])), np.float32)
        self.codes = np.zeros((1 + levels, tokens), np.uint16)
        width = 2 * int(p["memory_width"])
        self.first = setup.table(table_name("first"), np.float32, (2, entries, width))
        self.rows = np.zeros((2 + levels, tokens, width), np.float32)
        self.target = open_target(p["target"], Shown(self.input, self.features, self.codes[1:]), masks, entries)
        self.mask_scores = np.zeros(count, np.float32)
        self.structural = np.zeros((side, side), np.float32)
        self.nonfinite = 0
        self._prepare_levels(setup)
        self._prepare_tail(side, masks)

    def _prepare_levels(self, setup: Setup) -> None:
        levels = {branch: standard(pair) for branch, pair in setup.normalisation.items()}
        self.standard, names = levels, mask_names(len(self.mask_scores))
        means = np.array([setup.normalisation[name][0] for name in names])
        scales = np.array([levels[name][0] for name in names])
        self.mask_means = means
        self.mask_scales = scales if setup.parameters["mask_statistics"] else np.ones(len(names))

    def _prepare_tail(self, side: int, masks: NDArray[np.bool_]) -> None:
        self.peak_rows = peaks(side, self.pixels)
        self.smoothing, self.enlarging = smoothed(side, self.pixels), enlarged(side, self.pixels)
        # A cell that no mask hides belongs to all of them.
        cover = np.where(masks.any(0), masks, True).astype(np.float64)
        self.shares = np.ascontiguousarray(cover / cover.sum(0))  # (M, tokens)
        self.heat = np.zeros((side, side), np.float32)
        window = self.pixels - WINDOW + 1
        self.scratch = np.zeros((window, window), np.float32)
        self.map, self.logical_map = (np.zeros((self.pixels, self.pixels), np.float32) for _ in range(2))

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The root of the squared distance at each token, the score of each mask, and the codes."""
        return {
            "structural": self.structural,
            "logical": self.mask_scores,
            "codes": self.codes.astype(np.float32),
        }

    def infer(self) -> None:
        """Encode, look up the codes, decode; the masked predictions need the features alone."""
        self.run(ENCODE, image=self.input, features=self.features, tokens=self.tokens)
        self.nonfinite = self.quantise(self.tokens, self.codes, self.rows[2:])
        for table, rows in zip(self.first, self.rows, strict=False):
            np.take(table, self.codes[1], axis=0, out=rows, mode="clip")  # codes are in range: "raise" would copy
        self.run(DECODE, rows=self.rows, rebuilt=self.rebuilt)
        self.run(MIM, features=self.features, predicted=self.target.predicted)

    def judge(self) -> Scores:
        """Both scores, standardised, and their sum."""
        nonfinite = self.nonfinite + distance_map(self.features[0], self.rebuilt[0], out=self.structural)
        nonfinite += self.target.score(self.mask_scores)
        self.structural *= len(self.features[0])
        np.sqrt(self.structural, out=self.structural)
        deviations = (self.mask_scores - self.mask_means) * self.mask_scales
        structural = self._standardised("structural", self._structural())
        logical = self._standardised("logical", float(deviations.mean()))
        self._draw(structural, logical, deviations)
        explain = partial(self.expected.findings, self.codes[1:])
        return Scores(structural + logical, structural, logical, nonfinite, self.map, explain=explain)

    def _standardised(self, branch: str, value: float) -> float:
        scale, offset = self.standard[branch]
        return scale * value + offset

    def _structural(self) -> float:
        if self.structural_score == "mean":
            return float(np.square(self.structural).mean()) / len(self.features[0])
        return project_maps(
            [self.structural], [self.peak_rows], [self.peak_rows], weights=[1.0], constant=0.0, out=self.scratch
        ).score

    def _draw(self, structural: float, logical: float, deviations: NDArray[np.float64]) -> None:
        """Both branches as maps, the larger one at each place."""
        stronger = structural >= logical
        extra = (max(logical, 0.0), 0.0) if stronger else (0.0, max(structural, 0.0))
        self.heat.ravel()[:] = deviations @ self.shares
        branches = (
            ("peak", self.structural, self.smoothing, structural),
            ("logical", self.heat, self.enlarging, logical),
        )
        for (name, small, rows, most), added, out in zip(branches, extra, (self.map, self.logical_map), strict=True):
            scale, offset = self.standard[name]
            project_maps([small], [rows], [rows], weights=[scale], constant=_finite(offset + added), out=out)
            np.minimum(out, most + added, out=out)
        np.maximum(self.map, self.logical_map, out=self.map)


def standard(levels: tuple[float, float]) -> tuple[float, float]:
    """Scale and offset that bring the mean to 0 and one standard deviation above it to 1."""
    mean, above = levels
    scale = 1 / max(above - mean, 1e-12)
    return scale, -mean * scale


def branches(masks: int) -> tuple[str, ...]:
    """What is standardised: both scores, the highest place of the structural map, and the score of each mask."""
    return ("structural", "logical", "peak", *mask_names(masks))


def mask_names(masks: int) -> tuple[str, ...]:
    """One for each mask."""
    return tuple(f"mask_{index:03}" for index in range(masks))


def book_names(levels: int) -> tuple[str, ...]:
    """Of the codebooks: the top one, then those of the levels, deepest first."""
    return ("top", *(f"level_{depth}" for depth in reversed(range(levels))))


def book_tables(name: str, book: Codebook) -> dict[str, NDArray[np.float32]]:
    """The tables of a codebook by their names in the bundle."""
    return {table_name(f"{name}_{field}"): table for field, table in book._asdict().items() if table is not None}


def table_name(name: str) -> str:
    """Where the bundle keeps a table of this detector."""
    return f"ladmim/{name}"


def peaks(side: int, size: int) -> NDArray[np.float32]:
    """(size - 15, side): enlarges with aligned corners and takes the mean of 16 px at every place where they fit (§6.2)."""
    places = np.arange(size - WINDOW + 1)
    window = (np.arange(size)[None] >= places[:, None]) & (np.arange(size)[None] < places[:, None] + WINDOW)
    return np.ascontiguousarray((window / WINDOW) @ bilinear(side, size, corners=True), np.float32)


def smoothed(side: int, size: int) -> NDArray[np.float32]:
    """(size, side): puts the map where its tokens are, zeros around it, and takes the mean of 16 px, fewer at the edges."""
    centre = np.arange(size)
    window = (centre[None] >= centre[:, None] - WINDOW // 2) & (centre[None] < centre[:, None] + WINDOW // 2)
    inner = bilinear(side + 2 * MARGIN, size, corners=False)[:, MARGIN : MARGIN + side]
    return np.ascontiguousarray((window / window.sum(1, keepdims=True)) @ inner, np.float32)


def enlarged(side: int, size: int) -> NDArray[np.float32]:
    """(size, side): puts the map where its tokens are and continues it to the edges."""
    nearest = np.clip(np.arange(side + 2 * MARGIN) - MARGIN, 0, side - 1)
    return np.ascontiguousarray(bilinear(side + 2 * MARGIN, size, corners=False) @ np.eye(side)[nearest], np.float32)


def _finite(value: float) -> float:
    """The kernels refuse constants that are not finite; a frame with such values is refused by the gate anyway."""
    return value if np.isfinite(value) else 0.0


def _codebooks(setup: Setup) -> tuple[Codebook, list[Codebook]]:
    """From the tables: T tables behind a linear ψ, G tables behind the identity (§6.7)."""
    p = setup.parameters
    width, entries, memory = (int(p[key]) for key in ("width", "entries", "memory_width"))
    linear = p["psi"] == "linear"
    inner = int(p["code_width"]) if linear else width

    def book(name: str, top_codes: int) -> Codebook:
        def table(field: str, *shape: int) -> NDArray[np.float32]:
            return setup.table(table_name(f"{name}_{field}"), np.float32, shape)

        return Codebook(
            table("projection", inner, width) if linear else None,
            table("shift", top_codes if linear else 1, inner),
            table("entries", entries, inner),
            table("bias", 1 if linear else top_codes, entries),
            None if name == "top" else table("memory", entries, 2 * memory),
        )

    top, *others = book_names(int(p["levels"]))
    return book(top, 1), [book(name, entries) for name in others]
