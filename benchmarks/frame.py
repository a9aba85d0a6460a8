"""Whole-frame latency from the picture in memory to the verdict, beside the bare engine: python -m benchmarks.frame.

The inspector and the bare engine (the same ONNX, runtime, precision and threads, only `infer`) take turns round by
round; each is reported by its round with the lowest median. Capture and decoding are excluded: frames are in memory,
more of them than a second-level cache holds. overhead = total - infer is everything that is not the engine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import lad_edge
from benchmarks.engines import HEIGHT, SIZES, WIDTH, WORK, engine, frames
from benchmarks.report import Figures, about, add_json_flag, percentiles, table, write
from lad_edge.inspector import Inspector
from lad_edge.kernels import reference
from lad_edge.runtime import available, default_runtime
from lad_edge.scoring.efficient_ad import GRAPH, affine
from lad_edge.values import Verdict

PRECISIONS = ("f32", "bf16")
TOLERANCE = {"f32": 1e-3, "bf16": 5e-2}  # of the score against numpy kernels; reduced precision rounds its inputs
STAGES = ("total", "pre", "infer", "post", "rest", "overhead")
PICTURES = 8  # 31 MB
NG_SHARE = 98.0  # per cent of the map that the threshold of the NG runs leaves below: a few regions in each picture
WARM_UP = 5

Samples = dict[str, list[float]]  # stage → µs of each call


@dataclass(frozen=True)
class Pace:
    """Rounds for each contestant, calls for each round."""

    rounds: int
    calls: int


@dataclass(frozen=True)
class Case:
    """One engine at one precision with what was measured; milliseconds."""

    size: str
    precision: str
    runtime: str
    threads: int
    score_error: float  # against the numpy kernels, relative to the threshold or the score
    regions: float  # in each NG picture
    stages_ms: dict[str, dict[str, Figures]]  # "ok", "ng", "bare engine" → stage → percentiles


def main() -> None:
    """Measure every size and precision, print, write."""
    args = _arguments()
    cv2.setNumThreads(1)
    pictures = frames(PICTURES)
    cases = [
        measure(size, precision, pictures, args)
        for size in args.sizes.split(",")
        for precision in args.precisions.split(",")
        if precision in available()[default_runtime()]
    ]
    print(_tables(cases))
    write(args.json, about(frame=[WIDTH, HEIGHT], cases=[vars(case) for case in cases]))


def measure(size: str, precision: str, pictures: Sequence[np.ndarray], args: argparse.Namespace) -> Case:
    """Check first, then let OK parts, NG parts and the bare engine take turns."""
    path, pace = engine(size, args.work), Pace(args.rounds, args.calls)
    with lad_edge.load(path, precision=precision, threads=args.threads) as inspector:
        error = check(inspector, pictures)
        levels = [_map_of(inspector, picture) for picture in pictures]
        ok, ng = float(max(level.max() for level in levels)), float(np.percentile(np.stack(levels), NG_SHARE))
    with (
        lad_edge.load(path, precision=precision, threads=args.threads, threshold=ok) as passing,
        lad_edge.load(path, precision=precision, threads=args.threads, threshold=ng) as failing,
    ):
        contestants = {
            "ok": lambda calls: _inspect(passing, pictures, calls, Verdict.OK),
            "ng": lambda calls: _inspect(failing, pictures, calls, Verdict.NG),
            "bare engine": lambda calls: _run_bare(passing, calls),
        }
        regions = float(np.mean([len(failing(picture).regions) for picture in pictures]))
        name = f"{passing.runtime.name} {passing.runtime.version}"
        return Case(size, precision, name, passing.runtime.threads, error, regions, in_turns(contestants, pace))


def in_turns(contestants: dict[str, Callable[[int], Samples]], pace: Pace) -> dict[str, dict[str, Figures]]:
    """Contestant → stage → percentiles in ms of its round with the lowest median total."""
    rounds: dict[str, list[Samples]] = {name: [] for name in contestants}
    for call in contestants.values():
        call(WARM_UP)
    for _ in range(pace.rounds):
        for name, call in contestants.items():
            rounds[name].append(call(pace.calls))
    return {name: _best(samples) for name, samples in rounds.items()}


def check(inspector: Inspector, pictures: Sequence[np.ndarray]) -> float:
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
    """The score by reference.preprocess, the engine on buffers of its own, and reference.fuse."""
    manifest, buffers = inspector.bundle.manifest, bare_buffers(inspector)
    contract, parameters = manifest.contract, manifest.parameters
    buffers["image"][0] = reference.preprocess(
        picture, contract.size, roi=contract.roi, swap_rb=True, mean=contract.mean, std=contract.std
    )
    inspector.runtime.run(GRAPH, **buffers)
    scale, offset = affine(inspector.calibration.normalisation)
    shape = {"border": parameters["border"], "border_mode": parameters["border_mode"], "size": contract.size}
    structural, logical = buffers["maps"][0]
    fused, _ = reference.fuse(structural, logical, scale=scale, offset=offset, sigmoid=parameters["sigmoid"], **shape)
    return float(fused.score)


def bare_buffers(inspector: Inspector) -> dict[str, np.ndarray]:
    """Inputs and outputs of the graph that nobody else touches."""
    graph = inspector.bundle.manifest.graphs[GRAPH]
    return {name: np.zeros(shape, np.float32) for name, shape in {**graph.inputs, **graph.outputs}.items()}


def _inspect(inspector: Inspector, pictures: Sequence[np.ndarray], calls: int, expected: Verdict) -> Samples:
    samples: Samples = {stage: [] for stage in STAGES}
    for index in range(calls):
        picture = pictures[index % len(pictures)]
        begin = time.perf_counter_ns()
        result = inspector(picture)
        total = (time.perf_counter_ns() - begin) / 1e3
        if result.verdict is not expected:
            raise AssertionError(f"expected {expected.value}, came {result.verdict.value}: {result.detail}")
        pre, infer, post = (result.stages_us[stage] for stage in ("pre", "infer", "post"))
        values = (total, pre, infer, post, total - pre - infer - post, total - infer)
        for stage, value in zip(STAGES, values, strict=True):
            samples[stage].append(value)
    return samples


def _run_bare(inspector: Inspector, calls: int) -> Samples:
    buffers, times = bare_buffers(inspector), []
    for _ in range(calls):
        begin = time.perf_counter_ns()
        inspector.runtime.run(GRAPH, **buffers)
        times.append((time.perf_counter_ns() - begin) / 1e3)
    return {"total": times}


def _map_of(inspector: Inspector, picture: np.ndarray) -> np.ndarray:
    anomaly_map = inspector(picture).anomaly_map
    if anomaly_map is None:
        raise AssertionError("a picture was not scored")
    return anomaly_map


def _best(rounds: list[Samples]) -> dict[str, Figures]:
    best = min(rounds, key=lambda samples: float(np.median(samples["total"])))
    return {stage: percentiles(values, scale=1e-3) for stage, values in best.items()}


def _tables(cases: Sequence[Case]) -> str:
    texts = []
    for case in cases:
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
        texts.append(table(title, ("", "p50", "p95", "p99", "max"), rows))
    return "\n".join(texts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.frame"
    )
    parser.add_argument("--sizes", default=",".join(SIZES), help="out of s,xs,m")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="those that run natively here are measured")
    parser.add_argument("--threads", type=int, help="of the engine; default: one for each physical core")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=100, help="of each round")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the engines; made if missing")
    add_json_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
