"""Parity and whole-frame latency of every detector on the GPU: python -m benchmarks.gpu_frames --json OUT --work FOLDER.

Each way to run an engine (its portable file by ONNX Runtime CUDA, its plans) has a process of its own. Scores, verdicts and maps of the
pictures are compared with the CPU's first. Latency is serial, from the picture in memory to the verdict, at 1280 × 1024 unless the
engine's frames are smaller: with the frame as one CUDA graph, the pictures in memory of ours and in the slots of a camera, and without
a CUDA graph. The bare engine beside it runs on arrays that stay on the GPU:
enqueued one by one, and captured. EfficientAD-S is also measured after pauses, with --keep-warm as `lad-edge run` has it, and without.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_bare import bare
from benchmarks.gpu_engines import NAMES, REHEARSED, engine_file, expected_file, pictures_for
from benchmarks.gpu_plans import plans_of
from benchmarks.gpu_step import STATES, Place, Step, leave, require_gpu, step_arguments
from benchmarks.report import Figures, percentiles, table
from lad_edge import bundle
from lad_edge.cli.arguments import keep_warm_s
from lad_edge.errors import EngineError
from lad_edge.inspector import Inspector, Options
from lad_edge.sources.process import DriverProcess


@dataclass(frozen=True)
class Pace:
    """How long to measure. pauses: name → seconds, parts."""

    warm_up: int = 30
    seconds: float = 1.0
    pauses: Mapping[str, tuple[float, int]] = field(default_factory=lambda: {"100 ms": (0.1, 30), "1 s": (1.0, 5)})


LIMIT_S = 75  # of one way to run an engine
REHEARSAL = Pace(warm_up=1, seconds=0.05, pauses={"10 ms": (0.01, 2)})
TOLERANCE = {
    "f32": 1e-3,
    "f16": 2e-2,
}  # of a score, relative to the larger of score and threshold; f16 as `lad-edge build` has it
IN_SLOTS = "CUDA graph, from a camera's slots"
SLOTS_USED = 4  # of a camera: further ones would be given as copies
SHOWN = ("CUDA graph", IN_SLOTS, "stream", "bare, captured", "bare, enqueued")


def main() -> None:
    """All ways one after the other, or one of them in this process."""
    one = {"type": Path, "help": "measure this engine file alone"}
    pauses = {"action": "store_true", "help": "after pauses too"}
    args = step_arguments(__doc__, "benchmarks.gpu_frames", one=one, pauses=pauses)
    step = Step(args.place)
    if args.one is not None:
        measure(step, args.one, pauses=args.pauses)
    else:
        for made, paused in ways(args.place):
            step.ask(made.name, partial(_in_process, made, args.place, paused=paused))
        print(_table(step.found))
    leave(step)


def ways(place: Place) -> Iterator[tuple[Path, bool]]:
    """Files to measure, the most important ones first; True for the one that is measured after pauses."""
    names = REHEARSED if place.rehearse else NAMES
    files = {name: files_of(name, place) for name in names}
    for file in files[names[0]]:
        yield file, file is files[names[0]][0]
    for nth in itertools.zip_longest(*(files[name] for name in names[1:])):
        yield from ((file, False) for file in nth if file is not None)


def files_of(name: str, place: Place) -> list[Path]:
    """Plans and portable file of an engine, the fastest first; a rehearsal's plans are for another GPU."""
    made = engine_file(name, place.work)
    return [made] if place.rehearse else [*plans_of(name, place.work), made]


def measure(step: Step, made: Path, *, pauses: bool) -> None:
    """Everything about one file; without parity nothing is measured."""
    place, opened = step.place, bundle.read(made)
    if not place.rehearse and step.ask("gpu", _need_gpu) is None:
        return
    options, pictures = options_for(opened, place.device), pictures_for(opened, place.work)
    pace = REHEARSAL if place.rehearse else Pace()
    truth = expected_file(engine_file(made.name.split(".")[0], place.work))
    for mode, captured in (("CUDA graph", True), ("stream", False)):
        with ExitStack() as stack:
            inspector = _opened(step, mode, opened, replace(options, cuda_graph=captured), stack)
            if inspector is None:
                continue
            if step.ask(f"parity, {mode}", partial(parity, inspector, truth, pictures)) is not None:
                step.ask(mode, partial(whole_frames, inspector, pictures, pace))
                if captured:
                    step.ask(IN_SLOTS, partial(from_slots, inspector, truth, pictures, pace))
            for pause, warm in itertools.product(pace.pauses if pauses and captured else (), ("off", "auto")):
                question = f"pause {pause}, keep-warm {warm}"
                step.ask(question, partial(after_pauses, inspector, pictures, *pace.pauses[pause], warm))
            if not captured:  # a capture that breaks down is the last that is asked
                step.ask("bare, enqueued", partial(bare_engine, inspector, pace, captured=False))
                step.ask("bare, captured", partial(bare_engine, inspector, pace, captured=True))


def options_for(opened: bundle.Bundle, device: str) -> Options:
    """A plan as it was built; a portable file in f32, on a GPU by ONNX Runtime CUDA."""
    if opened.manifest.device is not None:
        return Options()
    return Options(runtime="onnxruntime_cuda" if device == "cuda" else None, precision="f32")


def parity(inspector: Inspector, truth: Path, pictures: list[np.ndarray]) -> dict[str, object]:
    """Scores, maps and verdicts beside the CPU's. Raises AssertionError where a score is off."""
    known, threshold = np.load(truth), inspector.threshold
    results = [inspector(picture) for picture in pictures]
    if any(result.score is None for result in results):
        raise AssertionError(f"a picture was not scored: {next(r.detail for r in results if r.score is None)}")
    scores, expected = np.array([result.score for result in results], np.float64), known["scores"][: len(results)]
    errors = np.abs(scores - expected) / np.maximum(np.abs(expected), abs(threshold))
    allowed = TOLERANCE[inspector.runtime.precision]
    if not errors.max() <= allowed:
        raise AssertionError(f"scores differ from the CPU's by {errors.max():.2g}, expected {allowed:g}")
    maps, right = np.stack([np.asarray(result.anomaly_map) for result in results]), known["maps"][: len(results)]
    spread = float(right.max() - right.min())
    return {
        "pictures": len(pictures),
        "score_error": float(f"{errors.max():.3g}"),
        "map_error": float(f"{np.abs(maps - right).max() / spread:.3g}"),
        "verdicts_equal": int(
            (np.array([result.verdict.value == "NG" for result in results]) == known["ng"][: len(results)]).sum()
        ),
    }


def whole_frames(inspector: Inspector, pictures: list[np.ndarray], pace: Pace) -> dict[str, object]:
    """Serial latency without pauses, ms, and the medians of its stages."""
    judge, stages = _judge(inspector, pictures), list[Mapping[str, float]]()
    times = _timed_ms(lambda: stages.append(judge()), pace)
    height, width = pictures[0].shape[:2]
    medians = {name: round(float(np.median([one[name] for one in stages])) / 1e3, 4) for name in stages[0]}
    found = {**percentiles(times, digits=4), "frame": f"{width}x{height}", "stages_ms": medians}
    return {**found, "path": inspector.frame_path}


def from_slots(inspector: Inspector, truth: Path, pictures: list[np.ndarray], pace: Pace) -> dict[str, object]:
    """As `whole_frames`, of pictures that lie where the process of a camera puts them; their scores are compared first."""
    camera, held = DriverProcess("bench", {}), []
    for slot, picture in enumerate(pictures[:SLOTS_USED], 1):
        held.append(np.asarray(camera.picture(slot, "|u1", picture.shape), np.uint8))
        np.copyto(held[-1], picture)
    return {**parity(inspector, truth, held), **whole_frames(inspector, held, pace)}


def after_pauses(
    inspector: Inspector, pictures: list[np.ndarray], pause_s: float, parts: int, warm: str
) -> dict[str, object]:
    """Latency of parts that come after a pause, ms; meanwhile the engine is kept warm as `lad-edge run` does it, or not."""
    judge, interval_s = _judge(inspector, pictures), keep_warm_s(warm, inspector.runtime.name)
    times = []
    for _ in range(parts):
        _pause(inspector, pause_s, interval_s)
        began = time.perf_counter_ns()
        judge()
        times.append((time.perf_counter_ns() - began) / 1e6)
    return dict(percentiles(times, digits=4))


def bare_engine(inspector: Inspector, pace: Pace, *, captured: bool) -> dict[str, object]:
    """All graphs of the engine, one after the other, on arrays that nobody else touches; ms from the call to its end.

    captured: on a GPU as one CUDA graph. Raises NotHereError where that cannot be.
    """
    with ExitStack() as stack:
        run = bare(inspector.bundle.manifest.graphs, inspector.runtime, stack, captured=captured)
        return dict(percentiles(_timed_ms(run, pace), digits=4))


def _opened(step: Step, mode: str, opened: bundle.Bundle, options: Options, stack: ExitStack) -> Inspector | None:
    """An open engine, which has judged its golden frames; None where it does not open."""
    made: list[Inspector] = []

    def open_it() -> dict[str, object]:
        began = time.monotonic()
        made.append(stack.enter_context(Inspector(opened, options)))
        runtime = made[0].runtime
        ran = f"{runtime.name} {runtime.version} {runtime.precision}"
        return {"ran": ran, "golden_frames": len(opened.golden_frames), "seconds": round(time.monotonic() - began, 2)}

    step.ask(f"open, {mode}", open_it)
    return made[0] if made else None


def _timed_ms(call: Callable[[], object], pace: Pace) -> list[float]:
    """Ms of each call, after those of the warm-up."""
    for _ in range(pace.warm_up):
        call()
    times, end = list[float](), time.perf_counter() + pace.seconds
    while time.perf_counter() < end:
        began = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - began) / 1e6)
    return times


def _judge(inspector: Inspector, pictures: list[np.ndarray]) -> Callable[[], Mapping[str, float]]:
    """Judges the next picture and returns its stages, µs."""
    turns = itertools.cycle(pictures)

    def judge() -> Mapping[str, float]:
        result = inspector(next(turns))
        if result.score is None:
            raise EngineError(f"a picture was not scored: {result.detail}")
        return result.stages_us

    return judge


def _pause(inspector: Inspector, pause_s: float, interval_s: float | None) -> None:
    end_s = time.monotonic() + pause_s
    while interval_s is not None and end_s - time.monotonic() > interval_s:
        time.sleep(interval_s)
        inspector.keep_warm()
    time.sleep(max(end_s - time.monotonic(), 0))


def _in_process(made: Path, place: Place, *, paused: bool) -> dict[str, object]:
    """An engine that ends its process takes no other one with it."""
    found = place.json.with_name(f"frames_{made.name}.json")
    found.unlink(missing_ok=True)
    words = ["--json", str(found), "--work", str(place.work), "--one", str(made)]
    words += [flag for flag, wanted in (("--pauses", paused), ("--rehearse", place.rehearse)) if wanted]
    command = [sys.executable, "-m", "benchmarks.gpu_frames", *words]
    status, said = "failed", ""
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=LIMIT_S)
        status, said = STATES.get(done.returncode, f"ended with code {done.returncode}"), done.stderr
    except subprocess.TimeoutExpired:
        status = f"ended after {LIMIT_S} s"
    answers: dict[str, object] = json.loads(found.read_text(encoding="utf-8")) if found.is_file() else {}
    return {"status": status, **({} if answers else {"error": said.strip()[-1500:]}), "questions": answers}


def _table(found: Mapping[str, Mapping[str, object]]) -> str:
    head = ("ms", *(f"{name} {share}" for name in SHOWN for share in ("p50", "p99")), "score error")
    rows = []
    for name, answer in found.items():
        asked: Any = answer.get("questions", {})
        cells = [asked.get(mode, {}).get(share, "") for mode in SHOWN for share in ("p50", "p99")]
        rows.append([name, *cells, asked.get("parity, CUDA graph", {}).get("score_error", "")])
    return table("Whole frames, serial", head, rows)


def _need_gpu() -> Figures:
    require_gpu()
    return {}


if __name__ == "__main__":
    main()
