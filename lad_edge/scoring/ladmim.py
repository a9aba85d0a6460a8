"""LADMIM at the edge: frame → features and tokens → codes → rebuilt features, predictions under masks → two scores (methods card §6.5).

The map has the scale of the total score, so that one threshold serves both. The stronger branch is drawn with the other one's score
added if that is positive, the weaker branch as it is, and each place shows the larger of the two; no place shows more than its branch
scores. A part that is rejected thus has a place above the threshold, but for the little by which enlarging flattens a peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import Codebook, Projected, pack_masks
from lad_edge.kernels.resampling import bilinear
from lad_edge.scoring.base import FrameScorer, Setup
from lad_edge.scoring.counts import Expectations
from lad_edge.scoring.line import Array, Said
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
DRAWN = ("peak", "logical")  # whose levels the map of each branch has
MARGIN = 2  # cells between the picture's edge and the first token: the teacher sees whole patches only


class Drawing(NamedTuple):
    """heat: (side, side), what masks deviate by at each token; constants, most: (2,), see `tails.join_branches`."""

    heat: Array
    constants: Array
    most: Array


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
        p, line = setup.parameters, self.line
        self.channels, self.side, levels, entries = (int(p[key]) for key in ("channels", "side", "levels", "entries"))
        self.size, tokens, count = setup.contract.size[0], self.side**2, int(p["masks"])
        masks = setup.table(table_name("masks"), np.uint8, (count, tokens)) != 0
        self.expected = Expectations(
            setup.table(table_name("ranges"), np.int32, (2, count, levels, entries)),
            setup.table(table_name("places"), np.int32, (levels, entries, 4)),
            pack_masks(masks),
            self.side,
        )
        self.features = line.array(1, self.channels, self.side, self.side)
        self.tokens = line.array(1 + levels, tokens, int(p["width"]))
        self.codes = line.shown(1 + levels, tokens, dtype=np.uint16)
        self.mask_scores = line.array(count)
        self.distances, self.structural = (line.array(self.side, self.side) for _ in range(2))
        self.scores, self.map = line.shown(3, dtype=np.float64), line.shown(self.size, self.size)
        self.levels = {branch: standard(pair) for branch, pair in setup.normalisation.items()}
        target = open_target(p["target"], line, Shown(self.input, self.features, self.codes[1:]), masks, entries)

        line.graph(ENCODE, image=self.input, features=self.features, tokens=self.tokens)
        with line.beside() as predicted:  # a second stream on a GPU: the predictions need the features alone
            line.graph(MIM, features=self.features, predicted=target.predicted)
        self._rebuild(setup)
        line.join(predicted)
        target.score(self.mask_scores)
        self._draw(self._score(setup, masks))

    @property
    def raw(self) -> Mapping[str, NDArray[np.float32]]:
        """The root of the squared distance at each token, the score of each mask, and the codes."""
        return {
            "structural": self.line.read(self.structural),
            "logical": self.line.read(self.mask_scores),
            "codes": self.line.read(self.codes).astype(np.float32),
        }

    def judge(self) -> Scores:
        """Both scores, standardised, and their sum."""
        score, structural, logical = self.line.read(self.scores).tolist()
        explain = partial(self.expected.findings, self.line.read(self.codes)[1:])
        return Scores(score, structural, logical, self.line.nonfinite, self.line.read(self.map), explain=explain)

    def _rebuild(self, setup: Setup) -> None:
        """Look up the codes, decode their memories, compare."""
        line, p = self.line, setup.parameters
        levels, tokens, width = int(p["levels"]), self.side**2, 2 * int(p["memory_width"])
        rows, rebuilt = line.array(2 + levels, tokens, width), line.array(1, self.channels, self.side, self.side)
        top, others = _codebooks(setup)
        line.quantize(top, others, self.tokens, codes=self.codes, memory=rows[2:])
        for index, table in enumerate(setup.table(table_name("first"), np.float32, (2, int(p["entries"]), width))):
            line.take_rows(line.table(table), self.codes[1], out=rows[index])
        line.graph(DECODE, rows=rows, rebuilt=rebuilt)
        line.distance_map(self.features, rebuilt, out=self.distances)

    def _score(self, setup: Setup, masks: NDArray[np.bool_]) -> Drawing:
        """Standardise both branches and add them up."""
        line, side = self.line, self.side
        drawing = Drawing(line.array(side, side), line.array(2), line.array(2))
        statistics = {name: line.table(table) for name, table in _mask_statistics(setup, self.levels, masks).items()}
        maps = {"roots": self.structural, "heat": drawing.heat, "mean_deviation": line.array(1)}
        line.mask_maps(self.distances, self.mask_scores, channels=self.channels, **statistics, **maps)
        scale, offset = zip(self.levels["structural"], self.levels["logical"], strict=True)
        line.join_branches(
            self._peak(str(setup.parameters["structural_score"])),
            maps["mean_deviation"],
            scale=scale,
            offset=offset,
            drawn_offset=tuple(self.levels[name][1] for name in DRAWN),
            scores=self.scores,
            constants=drawing.constants,
            most=drawing.most,
        )
        return drawing

    def _draw(self, drawing: Drawing) -> None:
        """Both branches as maps, the larger one at each place."""
        small = (self.structural, smoothed(self.side, self.size)), (drawing.heat, enlarged(self.side, self.size))
        maps = [self.line.array(self.size, self.size) for _ in DRAWN]
        for index, (name, (values, rows)) in enumerate(zip(DRAWN, small, strict=True)):
            constant = drawing.constants[index : index + 1]
            self._project(values, rows, self.levels[name][0], constant, maps[index])
        self.line.larger_capped(maps[0], maps[1], drawing.most, out=self.map)

    def _peak(self, structural_score: str) -> Said[Projected]:
        """The structural score: the highest place, or the mean over tokens and channels (L-7)."""
        if structural_score == "mean":
            mean = np.full((1, self.side), 1 / self.side, np.float32)
            return self._project(self.distances, mean, 1.0, 0.0, self.line.array(1, 1))
        rows = peaks(self.side, self.size)
        return self._project(self.structural, rows, 1.0, 0.0, self.line.array(len(rows), len(rows)))

    def _project(
        self, small: Array, rows: NDArray[np.float32], weight: float, constant: float | Array, out: Array
    ) -> Said[Projected]:
        """Rows and columns alike."""
        both = [self.line.table(rows)]
        return self.line.project_maps([small], both, both, weights=[weight], constant=constant, out=out)


def _mask_statistics(
    setup: Setup, levels: Mapping[str, tuple[float, float]], masks: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    """What `tails.mask_maps` needs of good parts, and how masks share their deviations out to the tokens they hide."""
    names = mask_names(len(masks))
    scales = [levels[name][0] if setup.parameters["mask_statistics"] else 1.0 for name in names]
    cover = np.where(masks.any(0), masks, True).astype(np.float64)  # a cell that no mask hides belongs to all of them
    return {
        "means": np.array([setup.normalisation[name][0] for name in names], np.float32),
        "scales": np.array(scales, np.float32),
        "shares": np.ascontiguousarray(cover / cover.sum(0), np.float32),
    }


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
            None if linear or name == "top" else table("prior", top_codes, entries),
            None if name == "top" else table("memory", entries, 2 * memory),
        )

    top, *others = book_names(int(p["levels"]))
    return book(top, 1), [book(name, entries) for name in others]
