"""Plans of every engine file by every TensorRT that is here: python -m benchmarks.gpu_plans --json OUT --work FOLDER.

`lad-edge build` makes each in a process of its own, f16 and f32; it writes none whose engines do not give the golden frames their scores.
A GPU that TensorRT-RTX does not list is asked all the same, with a small network. ONNX Runtime has plans in f16 alone. Only TensorRT
measures while it builds: without it several plans are made at once. In a rehearsal plans are built for another GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_engines import NAMES, REHEARSED, engine_file
from benchmarks.gpu_step import NotHereError, Place, Step, leave, require_gpu, step_arguments
from benchmarks.report import table
from lad_edge.bundle import ENGINES
from lad_edge.cli.trial import trial_graph
from lad_edge.errors import LadEdgeError
from lad_edge.runtime.compiler import PRECISIONS, Target, choose_target, compile_graph, installed
from lad_edge.runtime.gpu import find_gpus
from lad_edge.runtime.identity import engine_version
from lad_edge.runtime.tensorrt import EXTRAS, logger, package

CROSS = "sm_89"  # for a rehearsal
BESIDE = 3  # builds at once


def main() -> None:
    """Each runtime, then each engine file with it."""
    args = step_arguments(__doc__, "benchmarks.gpu_plans")
    step, place = Step(args.place), args.place
    usable = [runtime for runtime in ENGINES if step.ask(runtime, partial(runtime_facts, runtime, place)) is not None]
    rows = []
    with ThreadPoolExecutor(1 if "tensorrt" in usable else BESIDE) as pool:
        running = {
            plan.stem: pool.submit(build, engine_file(name, place.work), plan, place)
            for name in (REHEARSED if place.rehearse else NAMES)
            for plan in wanted(name, usable, place.work)
        }
        for title, answer in running.items():
            found = step.ask(title, answer.result)
            rows += [] if found is None else [[title, found["seconds"], found["mb"]]]
    print(table("Plans", ("", "seconds", "MB"), rows))
    if not place.rehearse:
        step.ask("gpu", _need_gpu)
    leave(step)


def wanted(name: str, usable: Sequence[str], work: Path) -> Iterator[Path]:
    """Plans of an engine file, the ones of lower precision first."""
    for runtime in usable:
        for precision in ("f16",) if runtime == "onnxruntime_cuda" else reversed(PRECISIONS):
            yield plan_file(name, runtime, precision, work)


def plan_file(name: str, runtime: str, precision: str, work: Path) -> Path:
    """Where the plan of that name, runtime and precision lies."""
    return work / "plans" / f"{name}.{runtime}.{precision}.plan"


def plans_of(name: str, work: Path) -> list[Path]:
    """Those that were built, the ones of lower precision first."""
    return [
        plan
        for precision in reversed(PRECISIONS)
        for runtime in ENGINES
        if (plan := plan_file(name, runtime, precision, work)).is_file()
    ]


def runtime_facts(runtime: str, place: Place) -> dict[str, object]:
    """Version; raises NotHereError where it cannot build, with what its builder says on this GPU."""
    if runtime in EXTRAS and runtime not in installed():
        raise NotHereError(f"{runtime} is not installed")
    cross = (CROSS,) if place.rehearse and runtime == "tensorrt_rtx" else ()
    try:
        choose_target(runtime, cross)
    except LadEdgeError as exc:
        tried = f"; {tried_all_the_same(runtime)}" if runtime in EXTRAS else ""
        raise NotHereError(f"{exc}{tried}") from exc
    return {"version": engine_version(runtime)}


def tried_all_the_same(runtime: str) -> str:
    """What becomes of a small network that is compiled for no GPU in particular: said, because no list says it for every GPU."""
    if not find_gpus().devices:
        return "there is no GPU to try it on"
    graph, onnx = trial_graph()
    try:
        engine = compile_graph(Target(runtime, ()), "trial", graph, onnx)
        opened = package(runtime).Runtime(logger(runtime)).deserialize_cuda_engine(engine)
        starts = opened is not None and opened.create_execution_context() is not None
    except Exception as exc:  # of a library that was not made for this GPU: whatever it says is the answer
        return f"tried all the same, it says: {type(exc).__name__}: {exc}"
    return "tried all the same, a small engine starts" if starts else f"tried all the same: {logger(runtime).last()}"


def build(source: Path, plan: Path, place: Place) -> dict[str, object]:
    """One plan. Raises RuntimeError with the words of `lad-edge build`."""
    _, runtime, precision = plan.stem.split(".")
    plan.parent.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name("lad-edge")), "build", str(source), "-o", str(plan), "--json"]
    command += ["--runtime", runtime, "--precision", precision, *(["--cross", CROSS] if place.rehearse else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr).strip()[-1500:])
    document: dict[str, Any] = json.loads(done.stdout)
    graphs = document["graphs"].values()
    return {
        "seconds": round(sum(graph["seconds"] for graph in graphs), 2),
        "mb": round(sum(graph["size_bytes"] for graph in graphs) / 1e6, 1),
        "gpu": document["device"]["gpu"],
        "parity": document["parity"],
    }


def _need_gpu() -> dict[str, object]:
    require_gpu()
    return {}


if __name__ == "__main__":
    main()
