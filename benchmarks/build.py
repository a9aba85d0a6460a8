"""What `lad-edge build` makes of engine files, on a machine without a GPU: python -m benchmarks.build X.lad….

TensorRT-RTX compiles the networks of each file for three generations of GPUs, one by one and together, in f32 and f16. Size: of the
engines. Time: of their compilation, without reading and writing. Before anything is compiled in f16, the converted networks judge the
golden frames on this CPU; the largest relative error of a score stands beside the figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import about, add_json_flag, measuring, table, write
from lad_edge import bundle
from lad_edge.cli.build import check_on_cpu, networks
from lad_edge.runtime.compiler import PRECISIONS, choose_target, compile_graph
from lad_edge.runtime.identity import engine_version

if TYPE_CHECKING:
    from lad_edge.runtime import Graphs

GPUS = ("sm_86", "sm_89", "sm_120")
RUNTIME = "tensorrt_rtx"


@dataclass(frozen=True)
class Built:
    """One engine file at one precision for some GPUs; sizes in MiB, times in seconds of `builds` builds."""

    detector: str
    precision: str
    gpus: str
    onnx_mib: float
    engines_mib: float
    median_s: float
    slowest_s: float
    builds: int
    golden_error: float | None = None


def main() -> None:
    """Build everything, print, write."""
    args = _arguments()
    measuring()
    built = [one for path in args.files for one in _file(path, args.builds)]
    print(_table(built))
    write(args.json, about(runtime=f"{RUNTIME} {engine_version(RUNTIME)}", built=[vars(one) for one in built]))


def _file(path: Path, builds: int) -> Iterator[Built]:
    opened = bundle.read(path)
    for precision in PRECISIONS:
        graphs = networks(opened, precision)
        proof: dict[str, Any] = {} if precision == "f32" else check_on_cpu(opened, graphs, precision)
        for gpus in (*((gpu,) for gpu in GPUS), GPUS):
            sizes, times = zip(*(_build(graphs, gpus) for _ in range(builds)), strict=True)
            yield Built(
                detector=opened.manifest.detector,
                precision=precision,
                gpus=" ".join(gpus),
                onnx_mib=_mib(sum(len(onnx) for _, onnx in graphs.values())),
                engines_mib=_mib(max(sizes)),
                median_s=round(float(np.median(times)), 2),
                slowest_s=round(max(times), 2),
                builds=builds,
                golden_error=proof.get("max_relative_error"),
            )


def _build(graphs: Graphs, gpus: Sequence[str]) -> tuple[int, float]:
    """Bytes of all engines and seconds."""
    target, started = choose_target(RUNTIME, gpus), time.perf_counter()
    size_bytes = sum(len(compile_graph(target, role, graph, onnx)) for role, (graph, onnx) in graphs.items())
    return size_bytes, time.perf_counter() - started


def _mib(size_bytes: int) -> float:
    return round(size_bytes / 2**20, 2)


def _table(built: Sequence[Built]) -> str:
    head = (
        *("detector", "precision", "GPUs", "ONNX MiB", "engines MiB", "median s", "slowest s", "builds"),
        "error of golden scores",
    )
    rows = [[*list(vars(one).values())[:-1], _shown(one.golden_error)] for one in built]
    return table(f"Engines of {RUNTIME} {engine_version(RUNTIME)}, built without a GPU", head, rows)


def _shown(error: float | None) -> str:
    return "" if error is None else f"{error:.1e}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.build"
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="X.lad")
    parser.add_argument("--builds", type=int, default=3, help="of each; default: %(default)s")
    add_json_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
