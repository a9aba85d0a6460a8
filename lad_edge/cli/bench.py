"""lad-edge bench: an engine goes in; the serial latency of a part on this machine, stage by stage, comes out."""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lad_edge import bundle as bundles
from lad_edge.cli.arguments import (
    add_engine_options,
    add_json,
    add_keep_warm,
    duration_ms,
    keep_warm_s,
    positive_int,
    print_json,
    size_px,
)
from lad_edge.cli.judging import judge_now, percentiles
from lad_edge.errors import SourceError, UsageError
from lad_edge.inspector import Inspector, Options
from lad_edge.sources.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lad_edge.bundle import Bundle
    from lad_edge.values import Result

_EPILOG = """\
examples:
  lad-edge bench part.lad
  lad-edge bench part.lad --size 1280x1024 --interval 0,50ms,1s --json
  lad-edge bench part.plan --interval 50ms,200ms,1s --keep-warm off

Serial latency: one part at a time, from the picture in memory to the verdict; a pause between parts shows what sleeping
cores cost. The bare engine runs alternately in the same loop on its own buffers; overhead is everything but the engine.
The golden frames are checked first: an engine that computes something else is not measured.
"""

_MOST_PICTURES = 16
Samples = dict[str, list[float]]  # stage → µs of each part


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "bench",
        help="measure the latency of an engine on this machine",
        description="Measures the latency from picture to verdict, stage by stage.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("engine", type=Path, metavar="X.lad")
    parser.add_argument("--source", metavar="FILE|FOLDER", help="pictures to use; default: the golden frames")
    parser.add_argument("--size", type=size_px, metavar="WxH", help="scale the pictures to this size first")
    parser.add_argument("--frames", type=positive_int, default=200, help="parts measured per interval; default: 200")
    parser.add_argument("--warmup", type=positive_int, default=20, help="parts before the measurement; default: 20")
    parser.add_argument("--interval", default="0", metavar="TIMES", help="pauses between parts: 0,50ms,1s; default: 0")
    add_keep_warm(parser)
    add_engine_options(parser)
    add_json(parser, "the figures as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Checks, measures, reports."""
    try:
        intervals = [duration_ms(text) for text in args.interval.split(",")]
    except argparse.ArgumentTypeError as exc:
        raise UsageError(f"--interval: {exc}") from exc
    bundle = bundles.read(args.engine)
    pictures = _pictures(args, bundle)
    options = Options(args.runtime, args.precision, args.threads, maps_for=frozenset())
    with Inspector(bundle, options) as inspector:  # which checks the golden frames
        count = args.warmup + args.frames
        measured = [
            _measure(inspector, pictures, args, interval, 1 + i * count) for i, interval in enumerate(intervals)
        ]
        document = _document(inspector, pictures[0], measured, keep_warm_s(args.keep_warm, inspector.runtime.name))
    if args.json:
        print_json(document)
    else:
        print(_text(document))
    return 0


def _pictures(args: argparse.Namespace, bundle: Bundle) -> list[NDArray[np.uint8]]:
    pictures = list(bundle.golden_frames) if args.source is None else _read_pictures(args.source)
    if args.size is not None:
        pictures = [cv2.resize(picture, args.size, interpolation=cv2.INTER_AREA) for picture in pictures]
    return pictures


def _read_pictures(text: str) -> list[NDArray[np.uint8]]:
    source = open_source(text)
    if source.live:
        raise UsageError("--source of bench takes files: a live source would be measured, not the engine")
    source.open()
    try:
        frames = list(islice(iter(source.read, None), _MOST_PICTURES))
    finally:
        source.close()
    pictures = [np.asarray(frame.image, np.uint8) for frame in frames if frame.image is not None]
    if not pictures:
        raise SourceError(f"{text} holds no picture that can be read; give another --source")
    return pictures


def _measure(
    inspector: Inspector,
    pictures: Sequence[NDArray[np.uint8]],
    args: argparse.Namespace,
    interval_ms: float,
    first_seq: int,
) -> dict[str, Any]:
    samples: Samples = {}
    bare, keep_warm = _BareEngine(inspector), keep_warm_s(args.keep_warm, inspector.runtime.name)
    for index in range(args.warmup + args.frames):
        _pause(inspector, interval_ms / 1e3, keep_warm)
        result = judge_now(inspector, first_seq + index, pictures[(first_seq + index) % len(pictures)])
        _pause(inspector, interval_ms / 1e3, keep_warm)
        bare_us = bare.run()
        if index >= args.warmup:
            _note(samples, result, bare_us)
    figures = {stage: percentiles(values) for stage, values in samples.items()}
    return {"interval_ms": interval_ms, "frames": args.frames, "stages_us": figures}


def _pause(inspector: Inspector, pause_s: float, keep_warm: float | None) -> None:
    """No part comes; the engine is kept warm as `run` does it."""
    end_s = time.monotonic() + pause_s
    while keep_warm is not None and end_s - time.monotonic() > keep_warm:
        time.sleep(keep_warm)
        inspector.keep_warm()
    time.sleep(max(end_s - time.monotonic(), 0))


def _note(samples: Samples, result: Result, bare_us: float) -> None:
    stages = dict(result.stages_us)
    total = stages.pop("total")
    named = {**stages, "total": total, "overhead": total - stages["infer"], "bare engine": bare_us}
    for stage, duration_us in named.items():
        samples.setdefault(stage, []).append(duration_us)


class _BareEngine:
    """The engine alone: all graphs of the bundle, one after the other, on buffers that nobody else touches."""

    def __init__(self, inspector: Inspector) -> None:
        self._runtime: Any = inspector.runtime
        self._gpu = getattr(inspector.runtime, "cuda", None)  # there it runs on arrays of the GPU, as frames do
        make = np.zeros if self._gpu is None else self._gpu.array
        self._buffers = {
            role: {name: make(shape, np.float32) for name, shape in (*graph.inputs.items(), *graph.outputs.items())}
            for role, graph in inspector.bundle.manifest.graphs.items()
        }

    def run(self) -> float:
        """Runs once; returns µs."""
        start_ns = time.perf_counter_ns()
        if self._gpu is None:
            for role, buffers in self._buffers.items():
                self._runtime.run(role, **buffers)
        else:
            with self._gpu.active():
                for role, buffers in self._buffers.items():
                    self._runtime.enqueue(role, None, True, **buffers)
                self._gpu.stream.synchronize()
        return (time.perf_counter_ns() - start_ns) / 1e3


def _document(
    inspector: Inspector, picture: NDArray[np.uint8], measured: list[dict[str, Any]], keep_warm: float | None
) -> dict[str, Any]:
    runtime, manifest = inspector.runtime, inspector.bundle.manifest
    return {
        "machine": runtime.device,
        "runtime": f"{runtime.name} {runtime.version}",
        "precision": runtime.precision,
        "threads": runtime.threads,
        "frame_path": inspector.frame_path,
        "keep_warm_ms": None if keep_warm is None else 1e3 * keep_warm,
        "engine": {"name": manifest.name, "detector": manifest.detector, "sha256": inspector.bundle.sha256},
        "frame": {"width": picture.shape[1], "height": picture.shape[0], "channels": picture.shape[2:] or (1,)},
        "golden_frames_checked": len(inspector.bundle.golden_frames),
        "runs": measured,
    }


def _text(document: dict[str, Any]) -> str:
    frame, engine = document["frame"], document["engine"]
    lines = [
        f"{engine['name']} ({engine['detector']}) on {document['machine']}",
        f"{document['runtime']} {document['precision']}, {document['threads']} threads, {document['frame_path']}; frames {frame['width']}×"
        f"{frame['height']} px; {document['golden_frames_checked']} golden frames correct",
    ]
    for measured in document["runs"]:
        lines.append(f"\npause {measured['interval_ms']:g} ms, {measured['frames']} parts (ms)")
        lines.append(f"  {'stage':<12}" + "".join(f"{name:>10}" for name in ("p50", "p95", "p99", "max")))
        for stage, figures in measured["stages_us"].items():
            lines.append(f"  {stage:<12}" + "".join(f"{us / 1e3:10.3f}" for us in figures.values()))
    return "\n".join(lines)
