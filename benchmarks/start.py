"""Cold start and memory of the edge process, beside the peer's and plain OpenVINO: python -m benchmarks.start.

Cold start: from the start of the process to its first verdict (Python, imports, loading, compiling, self-test, one frame
of 1280×1024); files come from the page cache, because the first start of each is not counted. Memory: resident pages,
those of shared libraries included, after some seconds of verdicts, and at the peak. `lad-edge run` is started as its
user starts it, on a folder with one picture, and stopped by its end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.contestant import Contestant, Start
from benchmarks.engines import HEIGHT, SIZES, WIDTH, WORK, engine, frames, frames_file
from benchmarks.peer import ENVIRONMENT, environment, peer_models
from benchmarks.report import about, add_json_flag, measuring, table, write
from lad_edge import assets, bundle

DEMO = Path(assets.__file__).parent / "demo.lad"
SETTLE_S = 1.5  # of verdicts before the memory is read


@dataclass(frozen=True)
class Measured:
    """One way to start; seconds and MB (10^6 bytes), of `starts` starts in turns."""

    name: str
    starts: int
    cold_start_s: float  # median
    fastest_s: float
    slowest_s: float
    resident_mb: float | None = None  # median
    peak_mb: float | None = None


@dataclass
class Way:
    """A way to start, and what its starts gave."""

    name: str
    go: Callable[[], dict[str, float]]

    def __post_init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def measured(self) -> Measured:
        """Medians, without the first start."""
        kept = self.found[1:]
        times = [one["cold_start_s"] for one in kept]
        memory = {
            name: round(float(np.median([one[name] for one in kept])), 1)
            for name in ("resident_mb", "peak_mb")
            if name in kept[0]
        }
        return Measured(
            self.name,
            len(kept),
            round(float(np.median(times)), 3),
            round(min(times), 3),
            round(max(times), 3),
            **memory,
        )


def main() -> None:
    """Prepare, start everything in turns, print, write."""
    args = _arguments()
    args.work = args.work.absolute()
    ways = [way for size in args.sizes.split(",") for way in _ways(size, args)] + [_run_way(args)]
    measuring()
    for _ in range(args.starts + 1):
        for way in ways:
            way.found.append(way.go())
    measured = [way.measured() for way in ways]
    print(_table(measured, args.threads))
    write(args.json, about(frame=[WIDTH, HEIGHT], threads=args.threads, ways=[vars(one) for one in measured]))


def _ways(size: str, args: argparse.Namespace) -> list[Way]:
    picture, threads, name = str(frames_file(1, args.work)), str(args.threads), f"EfficientAD-{size.upper()}"
    made = engine(size, args.work)
    edge = {"ours": made, "plain": _unpacked(made)}
    titles = {"ours": f"{name}: lad-edge", "plain": f"{name}: plain OpenVINO + OpenCV, raw maps only"}
    ways = [
        _way(
            titles[kind],
            Start("benchmarks.edge_worker", [kind, str(path), picture, args.precision, threads], args.work),
        )
        for kind, path in edge.items()
    ]
    if args.env is None:
        return ways
    python = environment(args.env)
    model = peer_models(size, python, args.work)["resized"]
    start = Start("benchmarks.peer_worker", ["serve", model, picture, "resized", threads], args.work, python)
    return [*ways, _way(f"{name}: anomalib OpenVINOInferencer", start)]


def _way(name: str, start: Start) -> Way:
    def go() -> dict[str, float]:
        with Contestant(start) as contestant:
            answer = contestant.round(SETTLE_S)
            memory = {key: float(answer[key]) for key in ("resident_mb", "peak_mb")}
            return {"cold_start_s": contestant.cold_start_s, **memory}

    return Way(name, go)


def _run_way(args: argparse.Namespace) -> Way:
    """`lad-edge run` on one picture: from the start of the process to the first record on its standard output."""
    made = DEMO if DEMO.is_file() else engine("xs", args.work)
    folder = args.work / f"one_picture_{made.stem}"
    _write_picture(made, folder, args.work)
    command = [str(Path(sys.executable).with_name("lad-edge")), "run", "--engine", str(made), "--source", str(folder)]

    def go() -> dict[str, float]:
        return {"cold_start_s": first_record_s(command)}

    return Way(f"lad-edge run, {made.name}: first verdict", go)


def first_record_s(command: Sequence[str]) -> float:
    """Seconds from the start of a command to its first line of output. Raises RuntimeError if it ends without one."""
    begin = time.perf_counter()
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - begin
        _, errors = process.communicate()
    if not line.startswith(b"{") or process.returncode:
        raise RuntimeError(f"{' '.join(command)}: no record; {errors.decode(errors='replace').strip()}")
    return took


def _write_picture(made: Path, folder: Path, work: Path) -> None:
    """One frame of the size that the engine needs."""
    contract = bundle.read(made).manifest.contract
    picture = cv2.resize(frames(1, work)[0], (contract.width or WIDTH, contract.height or HEIGHT))
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "part.png"), picture)


def _unpacked(made: Path) -> Path:
    """The network of an engine as .onnx."""
    path = made.with_suffix(".onnx")
    path.write_bytes(bundle.read(made).graph_bytes("detector"))
    return path


def _table(measured: Sequence[Measured], threads: int) -> str:
    head = ("", "cold start s", "fastest", "slowest", "resident MB", "peak MB", "starts")
    rows = [
        [one.name, one.cold_start_s, one.fastest_s, one.slowest_s, one.resident_mb or "", one.peak_mb or "", one.starts]
        for one in measured
    ]
    return table(f"Start of the process to the first verdict, {threads} threads, {WIDTH}×{HEIGHT} BGR", head, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.start"
    )
    parser.add_argument("--sizes", default=",".join(SIZES), help="out of s,xs")
    parser.add_argument("--precision", default="bf16", help="of ours and of plain OpenVINO; the peer's choice too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--starts", type=int, default=5, help="counted starts of each")
    parser.add_argument("--env", type=Path, default=ENVIRONMENT, help="the peer's environment; made if missing")
    parser.add_argument("--without-peer", dest="env", action="store_const", const=None, help="measure ours only")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of engines and models; made if missing")
    add_json_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
