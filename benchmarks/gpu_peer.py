"""Ours beside PyTorch and ONNX Runtime on the same GPU, network and pictures: python -m benchmarks.gpu_peer --json OUT --work FOLDER.

EfficientAD-S, 1280 × 1024 BGR in memory → score and map on the host, serial. Each contestant has a process of its own, in which its result
was checked; then they take turns round by round, and each is reported by its round with the lowest median. Ours: each plan, and the
portable file by ONNX Runtime CUDA. Precisions differ: each contestant's name has its own.
"""

from __future__ import annotations

import argparse
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from statistics import median

from benchmarks.contestant import Contestant, Start
from benchmarks.gpu_engines import HEADLINE, SMALL, engine_file
from benchmarks.gpu_frames import files_of
from benchmarks.gpu_step import Place, Step, leave, require_gpu, step_arguments
from benchmarks.peer import in_turns
from benchmarks.report import percentiles, table

PEERS = (
    "torch eager f32",
    "torch eager f16",
    "torch compiled f32",
    "torch compiled f16",
    "onnxruntime f32",
    "onnxruntime f16",
)
REHEARSED = ("torch eager f32", "onnxruntime f16")


def main() -> None:
    """Start each with its own try, then measure those that started."""
    args = step_arguments(__doc__, "benchmarks.gpu_peer")
    step, place = Step(args.place), args.place
    if not place.rehearse and step.ask("gpu", _need_gpu) is None:
        leave(step)
    running: dict[str, Contestant] = {}
    with ExitStack() as stack:
        with ThreadPoolExecutor(len(PEERS)) as pool:  # torch compiles for half a minute
            starting = {name: pool.submit(Contestant, start) for name, start in contestants(place).items()}
            for name, started in starting.items():
                step.ask(f"start of {name}", partial(_started, name, started, running, stack))
        step.ask("latency_ms", partial(latency, running, place))
    leave(step)


def contestants(place: Place) -> dict[str, Start]:
    """Name → how it is started; ours first."""
    name = SMALL if place.rehearse else HEADLINE
    made = engine_file(name, place.work)
    ours = {f"lad-edge {file.name.removeprefix(name)[1:]}": ("ours", file) for file in files_of(name, place)}
    peers = {peer: (peer, made) for peer in (REHEARSED if place.rehearse else PEERS)}
    return {
        title: Start("benchmarks.gpu_peer_worker", [kind, str(file), str(place.work), place.device], place.work)
        for title, (kind, file) in {**ours, **peers}.items()
    }


def latency(running: dict[str, Contestant], place: Place) -> dict[str, object]:
    """Contestant → ms of its best round, and how many times longer it takes than the fastest of ours."""
    pace = argparse.Namespace(rounds=1 if place.rehearse else 3, seconds=0.05 if place.rehearse else 1.0)
    rounds = in_turns(running, pace)
    figures = {name: percentiles(min(times, key=median), scale=1e-3, digits=4) for name, times in rounds.items()}
    fastest = min((one["p50"] for name, one in figures.items() if name.startswith("lad-edge")), default=float("nan"))
    found = {name: {**one, "ratio": round(one["p50"] / fastest, 3)} for name, one in figures.items()}
    head = ("ms", "p50", "p95", "p99", "max", "calls", "× ours")
    print(table("EfficientAD, whole frames in turns", head, [[name, *one.values()] for name, one in found.items()]))
    return dict(found)


def _started(
    name: str, started: Future[Contestant], running: dict[str, Contestant], stack: ExitStack
) -> dict[str, object]:
    running[name] = stack.enter_context(started.result())
    return {key: value for key, value in running[name].first.items() if key != "first_ns"}


def _need_gpu() -> dict[str, object]:
    require_gpu()
    return {}


if __name__ == "__main__":
    main()
