"""Whole-frame latency beside anomalib's OpenVINOInferencer on the same network in the same run: python -m benchmarks.peer.

The peer is installed in an environment of its own. The same weights are put into its EfficientAD, its raw maps are
compared with ours, and its own export makes its OpenVINO models, each of a fixed size. Then ours and the peer take
turns round by round, each in its own process with the same number of threads, from a BGR frame of 1280×1024 in memory
to score and map: the peer is given the raw frame, or one that its user brought to the network's size before.

XS is no setting of anomalib: narrower layers and our autoencoder are put into its network, its own code around them stays.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import lad_edge
from benchmarks.contestant import Contestant, Start, launch
from benchmarks.engines import HEIGHT, SIZES, WIDTH, WORK, engine, frames_file, weights
from benchmarks.report import Figures, about, add_json_flag, measuring, percentiles, table, write
from lad_edge.scoring.efficient_ad import GRAPH

ENVIRONMENT = Path("build/peer-env")
REQUIREMENTS = (("torch==2.13.0",), ("anomalib[openvino]>=2.7,<2.8",))  # torch first, so that it is the CPU's
PICTURES = 8
RAW_MAP_TOLERANCE = 1e-3  # of the largest value: both compute in f32, one of them with folded weights
EXPORT_TOLERANCE = 1e-3
OURS, RAW, RESIZED = "lad-edge", "anomalib, raw frame", "anomalib, resized before"


@dataclass(frozen=True)
class Comparison:
    """One size; milliseconds. ratio: of the medians, the peer's over ours."""

    size: str
    threads: int
    raw_map_error: float
    export_error: float
    contestants: dict[str, dict[str, object]]  # name → precision, versions
    latency_ms: dict[str, Figures]
    ratio: dict[str, float]


def main() -> None:
    """Install, check, measure, print, write."""
    args = _arguments()
    python = environment(args.env)
    comparisons = [compare(size, python, args) for size in args.sizes.split(",")]
    print("\n".join(_table(one) for one in comparisons))
    write(args.json, about(frame=[WIDTH, HEIGHT], comparisons=[vars(one) for one in comparisons]))


def environment(folder: Path) -> str:
    """The Python of the peer's environment, which is made if it is not there."""
    python = folder.absolute() / "bin" / "python"
    done = folder / "complete"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for packages in REQUIREMENTS:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return str(python)


def peer_models(size: str, python: str, work: Path) -> dict[str, Any]:
    """Anomalib's models with our weights: "raw" and "resized" are their files; raw_map_error, export_error relative.

    Raises AssertionError when its network or its export computes something else than ours.
    """
    folder = (engine(size, work).parent / "peer").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _write_truth(engine(size, work), folder / "truth.npz")
    arguments = ["export", str(weights(size, work).absolute()), str(folder / "truth.npz"), str(folder)]
    start = Start("benchmarks.peer_worker", [*arguments, str(HEIGHT), str(WIDTH)], folder, python)
    with (folder / "export.log").open("w", encoding="utf-8") as log:
        process = launch(start, log)
        output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the peer's export failed with code {process.returncode}; its messages: {log.name}")
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    if report["raw_map_error"] > RAW_MAP_TOLERANCE or report["export_error"] > EXPORT_TOLERANCE:
        raise AssertionError(f"the peer computes something else: {report}; nothing was measured")
    return report


def compare(size: str, python: str, args: argparse.Namespace) -> Comparison:
    """Rounds in turns; each contestant is reported by its round with the lowest median."""
    models = peer_models(size, python, args.work)
    starts = contestants(size, models, python, args)
    with ExitStack() as stack:
        running = {name: stack.enter_context(Contestant(start)) for name, start in starts.items()}
        facts = {name: _facts(contestant.first) for name, contestant in running.items()}
        rounds = in_turns(running, args)
    latency = {name: percentiles(min(times, key=median), scale=1e-3) for name, times in rounds.items()}
    ratio = {name: round(latency[name]["p50"] / latency[OURS]["p50"], 3) for name in latency}
    return Comparison(size, args.threads, models["raw_map_error"], models["export_error"], facts, latency, ratio)


def in_turns(running: Mapping[str, Contestant], args: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Contestant → µs of each call of each round."""
    rounds: dict[str, list[list[float]]] = {name: [] for name in running}
    measuring()
    for contestant in running.values():
        contestant.round(args.seconds / 4)  # warm-up
    for _ in range(args.rounds):
        for name, contestant in running.items():
            rounds[name].append(contestant.round(args.seconds)["times_us"])
    return rounds


def contestants(size: str, models: Mapping[str, str], python: str, args: argparse.Namespace) -> dict[str, Start]:
    """How each is started: ours at the precision that the peer takes by itself."""
    threads, work = str(args.threads), args.work.absolute()
    file = frames_file(PICTURES, work)
    ours = ["ours", str(engine(size, work)), str(file), args.precision, threads]
    return {
        OURS: Start("benchmarks.edge_worker", ours, work),
        RAW: Start("benchmarks.peer_worker", ["serve", models["raw"], str(file), "raw", threads], work, python),
        RESIZED: Start(
            "benchmarks.peer_worker", ["serve", models["resized"], str(file), "resized", threads], work, python
        ),
    }


def _write_truth(path: Path, out: Path) -> None:
    """A random picture and what our engine makes of it in f32."""
    with lad_edge.load(path, precision="f32") as inspector:
        contract, graph = inspector.bundle.manifest.contract, inspector.bundle.manifest.graphs[GRAPH]
        pixels = np.random.default_rng(0).random(graph.inputs["image"], np.float32)
        mean, std = (np.array(value, np.float32).reshape(1, 3, 1, 1) for value in (contract.mean, contract.std))
        maps = np.zeros(graph.outputs["maps"], np.float32)
        inspector.runtime.run(GRAPH, image=(pixels - mean) / std, maps=maps)
        normalisation = inspector.calibration.normalisation
    quantiles = [*normalisation["structural"], *normalisation["logical"]]
    np.savez(out, pixels=pixels, maps=maps, quantiles=np.array(quantiles, np.float32))


def _facts(first: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in first.items() if key in ("precision", "runtime", "peer")}


def _table(one: Comparison) -> str:
    title = (
        f"EfficientAD-{one.size.upper()}, {one.threads} threads, {WIDTH}×{HEIGHT} BGR, ms (raw maps of both networks "
        f"agree within {one.raw_map_error:.1e}, the peer's export within {one.export_error:.1e})"
    )
    rows = [
        [f"{name} ({one.contestants[name]['precision']})", *figures.values(), one.ratio[name]]
        for name, figures in one.latency_ms.items()
    ]
    return table(title, ("", "p50", "p95", "p99", "max", "calls", "× ours"), rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.peer"
    )
    parser.add_argument("--sizes", default=",".join(SIZES), help="out of s,xs")
    parser.add_argument("--env", type=Path, default=ENVIRONMENT, help="the peer's environment; made if missing")
    parser.add_argument(
        "--precision", default="bf16", help="of ours; the peer's inferencer takes bf16 where it is native"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of engines and models; made if missing")
    add_json_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
