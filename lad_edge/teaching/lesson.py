"""Good parts are shown one after the other; at the end stands an engine: features, tables, threshold, golden frames.

Everything runs on the box through the engine and the kernels that will judge, at one precision: that of the box.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge import __version__, thresholds
from lad_edge.bundle import (
    GOLDEN_TOLERANCE,
    Bundle,
    Calibration,
    Contract,
    Golden,
    Manifest,
    Policy,
    bundle_name,
    spoilt,
    write,
)
from lad_edge.errors import DataError
from lad_edge.kernels import Preprocess
from lad_edge.runtime import open_runtime, preferred_precision, stated
from lad_edge.scoring import thumbnails
from lad_edge.scoring.base import Normalisation, Setup
from lad_edge.scoring.masked_ridge import (
    GRAPH,
    HALF_TABLES,
    LOOKED_AT,
    OUTPUT,
    MaskedRidgeScorer,
    branches,
    scores_of,
    table_name,
)
from lad_edge.scoring.thumbnails import thumbnail
from lad_edge.teaching import ridge
from lad_edge.teaching.backbone import IMAGE, backbone_of, open_backbone
from lad_edge.teaching.looking import new_sight
from lad_edge.teaching.options import DETECTOR, FEWEST_PARTS, Options, default_policy
from lad_edge.teaching.shown import Shown, continued, twins
from lad_edge.teaching.stored import pack, spread_out
from lad_edge.views import Fitted, GoodViews, Sight, region

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self

    from lad_edge.kernels import RidgeTables


@dataclass(frozen=True)
class Taught:
    """A finished engine, and what was noticed on the way.

    scores: name of each part → the score that it gets from ridges that never saw it. odd: parts far out of line, the worst first.
    twins: pairs of parts that are nearly the same picture. policy: of the threshold, with its statement.
    """

    manifest: Manifest
    tensors: dict[str, NDArray[Any]]
    scores: dict[str, float]
    odd: list[str]
    twins: list[tuple[str, str]]
    policy: Policy

    def write(self, path: Path) -> str:
        """As `bundle.write`."""
        return write(path, self.manifest, self.tensors)


class Lesson:
    """Shows good parts to a backbone and fits the masked ridge to them. Owns an engine: close it, or use it in a `with`."""

    def __init__(self, options: Options, taught: Bundle | None = None) -> None:
        """taught: an engine to go on with; its parts count as shown, and its contract holds for the new ones.

        Raises UsageError if `taught` is another detector's or cannot go on as asked; else as `open_backbone` and `open_runtime`.
        """
        self.options, self.shown = options, Shown()
        precision = options.precision or preferred_precision(options.runtime)
        if taught is None:
            self.backbone = open_backbone(options.backbone, options.side)
        else:
            self.options, self.shown, precision = continued(options, taught)
            self.backbone = backbone_of(taught)
        graphs = {GRAPH: (self.backbone.graph, self.backbone.onnx)}
        self.runtime = open_runtime(options.runtime, graphs, precision=precision, threads=options.threads)
        self.input = np.zeros(self.backbone.graph.inputs[IMAGE], np.float32)
        self.output = np.zeros(self.backbone.graph.outputs[OUTPUT], np.float32)
        self.plan: Preprocess | None = None
        self.views = GoodViews(taught) if self.options.gates else None
        self.sight = Sight() if taught is None else Sight.of(taught)

    def __len__(self) -> int:
        """Parts shown so far."""
        return len(self.shown.names)

    def show(self, name: str, image: NDArray[np.uint8], pixel_format: str) -> None:
        """One good part: (H, W, 3) or (H, W), uint8. Raises DataError for another size or format than the first part's."""
        self._check(name, image, pixel_format)
        inspected = self._learnt(name, image)
        if self.plan is None:
            self.plan = self._setup(Normalisation({}), {}).preprocess()
        self.plan(inspected, self.input)
        self.runtime.run(GRAPH, **{IMAGE: self.input, OUTPUT: self.output})
        if not np.isfinite(self.output).all():
            raise DataError(f"{name}: the backbone gave numbers that are not finite; try --precision f32")
        self.shown.names.append(name)
        self.shown.cells.append(self.output[0].copy())
        self.shown.thumbnails.append(thumbnail(inspected) if self.options.thumbnails else b"")
        if self.views is not None:
            self.views.add(inspected)

    def finish(self) -> Taught:
        """Fits, calibrates and packs. Raises DataError for fewer than FEWEST_PARTS parts, or parts that are all one picture."""
        names = self.shown.names
        if len(names) < FEWEST_PARTS:
            raise DataError(
                f"teaching needs at least {FEWEST_PARTS} good parts, {len(names)} were shown; 25 and more serve well"
            )
        cells = np.stack(self.shown.cells)
        if float(np.ptp(cells, axis=0).max()) <= 1e-6 * float(np.abs(cells).max()):
            raise DataError("all parts are the same picture; show different parts, each as the camera will see it")
        alike = twins(cells, names)
        tables, unseen = ridge.fit(cells), ridge.cross_fitted(cells)
        levels = {name: (0.0, float(np.median(peaks))) for name, peaks in zip(branches(), unseen.peaks, strict=True)}
        scores = scores_of(unseen.fine, unseen.coarse, self._contract().size, levels)
        kept = self._pack(tables, cells, unseen)
        calibration, golden = self._calibrate(scores, levels, kept)
        views = None if self.views is None else self.views.fit()
        return Taught(
            manifest=self._manifest(calibration, kept, views),
            tensors={
                **(kept | golden | {calibration.scores: np.sort(scores)}),
                **(views.tensors if views else {}),
                **(self.sight.follower.tensors if self.sight.follower else {}),
                **(self.sight.painter.tensors if self.sight.painter else {}),
            },
            scores=dict(zip(names, scores.tolist(), strict=True)),
            odd=[names[index] for index in thresholds.far_out(scores)],
            twins=alike,
            policy=calibration.policy,
        )

    def close(self) -> None:
        """Frees the engine."""
        self.runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check(self, name: str, image: NDArray[Any], pixel_format: str) -> None:
        if pixel_format not in ("bgr8", "mono8"):
            raise DataError(f"{name}: expected 8-bit colour or grey, came {pixel_format}; convert it first")
        if self.shown.picture is None:
            self.shown.picture, self.shown.pixel_format = np.ascontiguousarray(image).copy(), pixel_format
            self.sight = new_sight(image, self.options.roi, self.options.register, self.options.mask)
        first, known = self.shown.picture, self.shown.pixel_format
        if image.shape != first.shape or pixel_format != known:
            same_size = image.shape[:2] == first.shape[:2]
            remedy = (
                f"--pixel-format {known} converts it" if same_size else "show all parts to one camera with one setting"
            )
            raise DataError(
                f"{name}: expected {_size(first)} {known} as the first part has, came {_size(image)} {pixel_format}; {remedy}"
            )

    def _learnt(self, name: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The region of a good part's picture that the engine judges. Raises DataError if the region cannot follow the part."""
        window = self.sight.learn(image)
        for _, words in window.findings:
            place, _, _ = words.partition(": ")
            raise DataError(
                f"{name}: {place}; the first part marks the place: show one that lies in the middle first, or give --register more"
            )
        return window.inspected

    def _contract(self) -> Contract:
        assert self.shown.picture is not None  # noqa: S101 - a part was shown
        height, width = self.shown.picture.shape[:2]
        return Contract(
            width=width,
            height=height,
            pixel_format=self.shown.pixel_format,
            roi=self.sight.roi,
            size=(self.backbone.side, self.backbone.side),
            channel_order="rgb",
            resize="bilinear-antialias",
            mean=self.backbone.mean,
            std=self.backbone.std,
        )

    def _setup(self, normalisation: Normalisation, tables: dict[str, NDArray[Any]]) -> Setup:
        assert self.shown.picture is not None  # noqa: S101 - a part was shown
        return Setup(
            replace(self._contract(), roi=None),  # it is given the region
            self._parameters(tables),
            normalisation,
            self.runtime,
            self.sight.at_rest(self.shown.picture).shape,
            self.shown.pixel_format,
            tables,
        )

    def _parameters(self, tables: dict[str, NDArray[Any]]) -> dict[str, Any]:
        if not tables:
            return {}
        directions = tables[table_name("fine_directions")].shape[2]
        components = tables[table_name("context")].shape[1]
        return {
            "channels": self.backbone.channels,
            "components": components,
            "directions": directions,
            "grid": self.backbone.grid,
            "parts": list(self.shown.names),
        }

    def _pack(
        self, tables: RidgeTables, cells: NDArray[np.float32], unseen: ridge.Distances
    ) -> dict[str, NDArray[Any]]:
        """All tensors but those of the calibration."""
        contexts = ridge.contexts(tables, cells)
        stored = tables._asdict() | {"contexts": contexts, "own_limit": unseen.own.max(0)}
        packed, ranges = pack(cells)
        painter = self.sight.painter
        seen = {} if painter is None else {LOOKED_AT: painter.seen((self.backbone.grid,) * 2).astype(np.uint8)}
        shown = spread_out(contexts, [bool(jpeg) for jpeg in self.shown.thumbnails], thumbnails.MOST)
        return {
            **{
                table_name(name): table.astype(np.float16 if name in HALF_TABLES else np.float32)
                for name, table in stored.items()
            },
            **seen,
            "taught/cells": packed,
            "taught/ranges": ranges,
            **thumbnails.pack([jpeg if keep else b"" for jpeg, keep in zip(self.shown.thumbnails, shown, strict=True)]),
            self.backbone.graph.tensor: np.frombuffer(self.backbone.onnx, np.uint8),
        }

    def _calibrate(
        self, scores: NDArray[np.float64], levels: dict[str, tuple[float, float]], tables: dict[str, NDArray[Any]]
    ) -> tuple[Calibration, dict[str, NDArray[Any]]]:
        """The threshold of the scores, and the golden frames with what this very engine says of them."""
        assert self.shown.picture is not None  # noqa: S101 - a part was shown
        chosen = thresholds.choose(scores, *(self.options.policy or default_policy(len(scores))))
        frames = np.stack([self.shown.picture, spoilt(self.shown.picture)])
        for frame in frames:  # what nobody shall look at is not kept either
            region(frame, self.sight.roi)[...] = self.sight.at_rest(frame)
        scorer, found = MaskedRidgeScorer(self._setup(Normalisation(levels), tables)), []
        for frame in frames:
            scorer.enqueue(self.sight.at_rest(frame))
            found.append(scorer.wait().score)
        precision = self.runtime.precision
        calibration = Calibration(
            runtime=stated(self.runtime),
            normalisation=levels,
            threshold=chosen.value,
            policy=Policy(chosen.policy, chosen.parameter, chosen.n, chosen.statement),
            scores=f"calibration/{precision}/scores",
            envelope=thresholds.envelope(scores, chosen.value),
            golden_scores=f"golden/{precision}/scores",
        )
        return calibration, {"golden/frames": frames, calibration.golden_scores: np.array(found, np.float64)}

    def _manifest(self, calibration: Calibration, tables: dict[str, NDArray[Any]], views: Fitted | None) -> Manifest:
        precision = self.runtime.precision
        return Manifest(
            name=bundle_name(self.options.name),
            detector=DETECTOR,
            tool_version=__version__,
            contract=self._contract(),
            graphs={GRAPH: self.backbone.graph},
            calibrations={precision: calibration},
            golden=Golden("golden/frames", {precision: GOLDEN_TOLERANCE.get(precision, 0.05)}),
            parameters=self._parameters(tables),
            provenance={
                "backbone": self.backbone.name,
                "parts": len(self.shown.names),
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            gates=views.gates if views else None,
            registration=self.sight.follower.stated if self.sight.follower else None,
            mask=self.sight.painter.stated if self.sight.painter else None,
        )


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
