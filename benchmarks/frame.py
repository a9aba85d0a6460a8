"""Whole-frame latency from the picture in memory to the verdict, beside the bare engine: python -m benchmarks.frame.

The inspector and the bare engine (the same ONNX, runtime, precision and threads, only `infer`) take turns round by
round; each is reported by its round with the lowest median. Capture and decoding are excluded: frames are in memory,
more of them than a second-level cache holds. overhead = total - infer is everything that is not the engine.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

import lad_edge
from benchmarks.engines import HEIGHT, SIZES, WIDTH, WORK, engine, frames
from benchmarks.report import Figures, about, add_json_flag, measuring, percentiles, table, write
from lad_edge.inspector import Inspector
from lad_edge.kernels import reference
from lad_edge.runtime import available, default_runtime
from lad_edge.scoring.base import Normalisation, affine
from lad_edge.scoring.efficient_ad import GRAPH
from lad_edge.values import Result, Verdict

PRECISIONS = ("f32", "bf16")
TOLERANCE = {"f32": 1e-3, "bf16": 5e-2}  # of the score against numpy kernels; reduced precision rounds its inputs
STAGES = ("total", "pre", "infer", "post", "rest", "overhead")
PICTURES = 8  # 31 MB
NG_SHARE = 98.0  # per cent of the faintest map that lie under the threshold of the NG parts: each has a few regions

Samples = dict[str, list[float]]  # stage → µs of each call


@dataclass(frozen=True)
class Case:
    """One engine at one precision with what was measured; milliseconds."""

    size: str
    precision: str
    runtime: str
    threads: int
    score_error: float  # against the numpy kernels, relative to the threshold or the score
    regions: float  # in each NG picture
    stages_ms: dict[str, dict[str, Figures]]  # "OK", "NG", "bare engine" → stage → percentiles


class Subject:
    """One open engine that was checked, and the thresholds at which its pictures are OK and NG."""

    def __init__(self, size: str, precision: str, pictures: np.ndarray, args: argparse.Namespace) -> None:
        self.size, self.pictures = size, pictures
        self.inspector = lad_edge.load(engine(size, args.work), precision=precision, threads=args.threads)
        self.error = check(self.inspector, pictures)
        maps = np.stack([_map_of(self.inspector(picture)) for picture in pictures])
        lowest = np.percentile(maps, NG_SHARE, axis=(1, 2)).min()
        self.thresholds = {Verdict.OK: float(maps.max()), Verdict.NG: float(lowest)}
        self.rounds: dict[str, list[Samples]] = {"OK": [], "NG": [], "bare engine": []}

    def one_round(self, seconds: float) -> None:
        """OK parts, NG parts and the bare engine, one after the other."""
        self.rounds["OK"].append(self._judge(Verdict.OK, seconds))
        self.rounds["NG"].append(self._judge(Verdict.NG, seconds))
        self.rounds["bare engine"].append(self._run_bare(seconds))

    def case(self) -> Case:
        """What was measured; each contestant by its round with the lowest median."""
        runtime, self._limit = self.inspector.runtime, self.thresholds[Verdict.NG]
        regions = float(np.mean([len(self.inspector(picture).regions) for picture in self.pictures]))
        stages = {name: _best(samples) for name, samples in self.rounds.items()}
        name = f"{runtime.name} {runtime.version}"
        return Case(self.size, runtime.precision, name, runtime.threads, self.error, regions, stages)

    def _judge(self, expected: Verdict, seconds: float) -> Samples:
        self._limit = self.thresholds[expected]
        samples: Samples = {stage: [] for stage in STAGES}
        for picture in _until(seconds, self.pictures):
            begin = time.perf_counter_ns()
            result = self.inspector(picture)
            total = (time.perf_counter_ns() - begin) / 1e3
            if result.verdict is not expected:
                raise AssertionError(f"expected {expected.value}, came {result.verdict.value}: {result.detail}")
            pre, infer, post = (result.stages_us[stage] for stage in ("pre", "infer", "post"))
            values = (total, pre, infer, post, total - pre - infer - post, total - infer)
            for stage, value in zip(STAGES, values, strict=True):
                samples[stage].append(value)
        return samples

    def _run_bare(self, seconds: float) -> Samples:
        buffers, times = bare_buffers(self.inspector), []
        for _ in _until(seconds, self.pictures):
            begin = time.perf_counter_ns()
            self.inspector.runtime.run(GRAPH, **buffers)
            times.append((time.perf_counter_ns() - begin) / 1e3)
        return {"total": times}

    @property
    def _limit(self) -> float:
        return self.inspector.threshold

    @_limit.setter
    def _limit(self, threshold: float) -> None:
        gate = self.inspector.gate
        gate.limits = replace(gate.limits, threshold=threshold)


def main() -> None:
    """Open and check everything, measure in turns, print, write."""
    args = _arguments()
    cv2.setNumThreads(1)
    pictures = frames(PICTURES, args.work)
    native = available()[default_runtime()]
    precisions = [precision for precision in args.precisions.split(",") if precision in native]
    subjects = [Subject(size, one, pictures, args) for size in args.sizes.split(",") for one in precisions]
    measuring()
    for _ in range(args.rounds):
        for subject in subjects:
            subject.one_round(args.seconds)
    cases = [subject.case() for subject in subjects]
    print("\n".join(_table(case) for case in cases))
    write(args.json, about(frame=[WIDTH, HEIGHT], cases=[vars(case) for case in cases]))


def check(inspector: Inspector, pictures: np.ndarray) -> float:
    """The largest relative difference of a score from the numpy kernels around the same engine.

    Raises AssertionError above the tolerance: what computes something else is not measured.
    """
    errors = []
    for picture in pictures:
        found, expected = inspector(picture).score, reference_score(inspector, picture)
        if found is None:
            raise AssertionError("a picture was not scored")
        errors.append(abs(found - expected) / max(abs(expected), abs(inspector.threshold)))
    if max(errors) > TOLERANCE[inspector.runtime.precision]:
        raise AssertionError(f"scores differ from the numpy kernels by {max(errors):.2g}: nothing was measured")
    return max(errors)


def reference_score(inspector: Inspector, picture: np.ndarray) -> float:
    """The score by reference.preprocess, the engine on buffers of its own, and the numpy kernels."""
    contract, parameters = (
        inspector.bundle.manifest.contract,
        cast("dict[str, Any]", inspector.bundle.manifest.parameters),
    )
    buffers = bare_buffers(inspector)
    buffers["image"][0] = reference.preprocess(
        picture, contract.size, roi=contract.roi, swap_rb=True, mean=contract.mean, std=contract.std
    )
    inspector.runtime.run(GRAPH, **buffers)
    tensor = inspector.calibration.places
    places = None if tensor is None else inspector.bundle.tensors[tensor]
    normalisation = Normalisation(inspector.calibration.normalisation, places)
    scale, offset = zip(*(affine(normalisation[branch]) for branch in ("structural", "logical")), strict=True)
    shape = {"border": parameters["border"], "border_mode": parameters["border_mode"], "size": contract.size}
    maps, weighted = buffers["maps"][0], normalisation.weighted_places(scale)
    if weighted is not None:
        return float(reference.fuse_places(*maps, places=weighted, **shape)[0].score)
    fused, _ = reference.fuse(*maps, scale=scale, offset=offset, sigmoid=parameters["sigmoid"], **shape)
    return float(fused.score)


def bare_buffers(inspector: Inspector) -> dict[str, np.ndarray]:
    """Inputs and outputs of the graph that nobody else touches."""
    graph = inspector.bundle.manifest.graphs[GRAPH]
    return {name: np.zeros(shape, np.float32) for name, shape in {**graph.inputs, **graph.outputs}.items()}


def _map_of(result: Result) -> np.ndarray:
    if result.anomaly_map is None:
        raise AssertionError(f"a picture was not scored: {result.detail}")
    return result.anomaly_map


def _until(seconds: float, pictures: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures in turn for that long."""
    end = time.perf_counter_ns() + int(seconds * 1e9)
    for picture in itertools.cycle(pictures):
        yield picture
        if time.perf_counter_ns() > end:
            return


def _best(rounds: list[Samples]) -> dict[str, Figures]:
    best = min(rounds, key=lambda samples: float(np.median(samples["total"])))
    return {stage: percentiles(values, scale=1e-3) for stage, values in best.items()}


def _table(case: Case) -> str:
    title = (
        f"EfficientAD-{case.size.upper()} {case.precision}, {case.runtime}, {case.threads} threads, "
        f"{WIDTH}×{HEIGHT} BGR, ms (score within {case.score_error:.1e} of the numpy kernels; "
        f"{case.regions:.1f} regions in an NG part)"
    )
    rows = [
        [f"{name}: {stage}", *figures.values()]
        for name, stages in case.stages_ms.items()
        for stage, figures in stages.items()
    ]
    return table(title, ("", "p50", "p95", "p99", "max", "calls"), rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.frame"
    )
    parser.add_argument("--sizes", default=",".join(SIZES), help="out of s,xs,m")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="those that run natively here are measured")
    parser.add_argument("--threads", type=int, help="of the engine; default: one for each physical core")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each contestant in each round")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the engines; made if missing")
    add_json_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
