"""lad-edge build: a portable engine file goes in; a plan for one kind of NVIDIA GPU comes out."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge import __version__
from lad_edge import bundle as bundles
from lad_edge.bundle import ENGINES, Device
from lad_edge.cli.arguments import add_json, print_json
from lad_edge.errors import MissingDependencyError, ParityError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lad_edge.bundle import Bundle, Manifest
    from lad_edge.runtime import Graphs
    from lad_edge.runtime.compiler import Target
    from lad_edge.runtime.timings import Timings

_EPILOG = """\
examples:
  lad-edge build part.lad                                    for the GPU of this machine
  lad-edge build part.lad --precision f16 -o part-f16.plan
  lad-edge build part.lad --cross sm_89                      for another machine's RTX 40 GPU; no GPU is needed here
  lad-edge build part.lad --runtime onnxruntime_cuda --precision f16     where there is no TensorRT
  lad-edge build part.plan -o part.plan                      again, after an update of TensorRT or of the GPU

TensorRT measures which kernels are fastest on this GPU and keeps that in X.timings beside X.lad: the next build takes it and is shorter.
The plan holds the engines, the networks that they were built from and everything that the portable file holds. On the machine with the
GPU the golden frames are judged by the engines before the plan is written; with --cross that happens when the plan is first opened.
--precision f16 halves the weights and doubles the speed of matrix units; sums, normalisations and what is compared stay in f32. The
converted networks must give the golden frames their scores on this CPU first. The calibration is that of f32, until
'lad-edge calibrate part.plan --good FOLDER' measures good parts on the GPU.
"""

_CALIBRATED_AS = {
    "f32": "f32",
    "f16": "f32",
}  # precision of the engines → calibration of the source that is used for it
_TOLERANCE = {
    "f16": 2e-2
}  # relative error of a golden score: 11 bits of mantissa through dozens of layers; bf16 has 5e-2


@dataclass(frozen=True)
class Built:
    """Engines by role, and what each took."""

    engines: dict[str, bytes]
    seconds: dict[str, float]


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "build",
        help="compile an engine file for an NVIDIA GPU",
        description="Compiles the networks of an engine file with TensorRT or TensorRT-RTX and writes a plan.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="X.lad", help="or a plan, which is built again from its networks")
    parser.add_argument("-o", "--out", type=Path, metavar="Y.plan", help="default: X.plan beside it")
    parser.add_argument("--runtime", choices=ENGINES, help="default: the one that is installed here")
    parser.add_argument("--precision", choices=tuple(_CALIBRATED_AS), help="default: f32, or that of the plan")
    parser.add_argument(
        "--cross",
        metavar="sm_89,…",
        help="architectures of other machines' GPUs (TensorRT-RTX), instead of this machine's",
    )
    add_json(parser, "what was built as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Builds, checks, writes."""
    from lad_edge.runtime.compiler import choose_target, open_timings

    source = bundles.read(args.file)
    out = args.out or args.file.with_suffix(".plan")
    cross = tuple(args.cross.split(",")) if args.cross else ()
    precision = args.precision or (source.manifest.device.precision if source.manifest.device else "f32")
    runtime = args.runtime or _runtime_of(source)
    if (runtime, precision) == ("onnxruntime_cuda", "f32"):
        raise UsageError(
            "onnxruntime_cuda runs a portable file in f32 as it is: give run that --runtime, or build --precision f16"
        )
    target = choose_target(runtime, cross)
    source.calibration(_CALIBRATED_AS[precision])  # raises with those that there are
    graphs = networks(source, precision)
    parity = {} if precision == "f32" else {precision: check_on_cpu(source, graphs, precision)}
    timings = open_timings(args.file.with_suffix(".timings"), target)
    built = _compile(target, graphs, timings)
    device = _device(source, target, precision, here=not cross)
    manifest = plan_manifest(source, device, parity)
    tensors = _tensors(source, manifest, built.engines)
    sha256 = bundles.write(out, manifest, tensors) if cross else _write_proven(out, manifest, device, tensors)
    if args.json:
        print_json({"path": str(out), "sha256": sha256, **_document(device, built), "parity": parity})
    else:
        print("\n".join(_lines(out, device, built)))
    return 0


def _runtime_of(source: Bundle) -> str | None:
    """A plan of ONNX Runtime stays one; one of TensorRT is built by the flavour that is installed here."""
    device = source.manifest.device
    return device.runtime if device is not None and device.runtime == "onnxruntime_cuda" else None


def networks(source: Bundle, precision: str) -> Graphs:
    """Role → (Graph, ONNX bytes) at the precision; networks that the manifest keeps at f32 stay as they are."""
    graphs = source.sources()
    if precision == "f32":
        return graphs
    try:
        from lad_edge.export.half import to_half
    except ModuleNotFoundError as exc:
        raise MissingDependencyError(
            f"--precision {precision} needs {exc.name}, which is not installed; pip install 'lad-edge[tensorrt-rtx]'"
        ) from exc
    return {
        role: (graph, data if graph.precision == "f32" else to_half(bytes(data)))
        for role, (graph, data) in graphs.items()
    }


def check_on_cpu(source: Bundle, graphs: Graphs, precision: str) -> dict[str, Any]:
    """Judge the golden frames by the converted networks on this CPU. Raises ParityError when a score is not what it was.

    ONNX Runtime rounds as the networks say; OpenVINO, where it is alone, shows only what the rounding of the weights does.
    """
    from lad_edge.runtime import available, open_runtime
    from lad_edge.scoring import open_scorer

    runtime = "onnxruntime" if "onnxruntime" in available() else None
    expected = source.golden_scores("f32")
    images = source.golden_frames
    with open_runtime(runtime, graphs, precision="f32") as engine:
        scorer = open_scorer(source, engine, images[0].shape, source.manifest.contract.pixel_format)
        found = []
        for image in images:
            scorer.enqueue(image)
            found.append(scorer.wait().score)
        ran = f"{engine.name} {engine.version}"
    scale = np.maximum(np.abs(expected), abs(source.calibration("f32").threshold))
    errors = np.abs(np.array(found) - expected) / np.maximum(scale, 1e-12)
    if not errors.max() <= _TOLERANCE[precision]:
        raise ParityError(
            f"{precision}: the golden frames should keep their scores to {_TOLERANCE[precision]:g}, one is off by "
            f"{errors.max():.2g}; build with --precision f32"
        )
    return {"runtime": ran, "images": len(errors), "max_relative_error": float(f"{errors.max():.3g}")}


def plan_manifest(source: Bundle, device: Device, parity: dict[str, Any]) -> Manifest:
    """The manifest of the source with engines for networks, their device, and a calibration for their precision."""
    old, precision = source.manifest, device.precision
    graphs = {
        role: replace(graph, tensor=f"graph/{role}", format=device.runtime, source=f"onnx/{role}")
        for role, graph in old.graphs.items()
    }
    calibration = source.calibration(_CALIBRATED_AS[precision])
    tolerance = {precision: _TOLERANCE[precision]} if precision in _TOLERANCE else {}
    return replace(
        old,
        kind="plan",
        tool_version=__version__,
        graphs=graphs,
        device=device,
        calibrations={precision: calibration, **old.calibrations},
        golden=replace(old.golden, tolerance={**old.golden.tolerance, **tolerance}),
        parity={**old.parity, **parity},
    )


def _compile(target: Target, graphs: Graphs, timings: Timings | None) -> Built:
    from lad_edge.runtime.compiler import compile_graph

    engines: dict[str, bytes] = {}
    seconds: dict[str, float] = {}
    for role, (graph, onnx) in graphs.items():
        started = time.monotonic()
        engines[role] = compile_graph(target, role, graph, onnx, _progress(role, started), timings)
        seconds[role] = round(time.monotonic() - started, 2)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
    if timings is not None:
        timings.save()
        if timings.problem:
            print(timings.problem, file=sys.stderr)
    return Built(engines, seconds)


def _progress(role: str, started: float) -> Callable[[str, float], None]:
    """A line that is written over itself on a terminal; a build on a Jetson takes minutes."""

    def show(phase: str, share: float) -> None:
        if sys.stderr.isatty() and share > 0:
            left = (time.monotonic() - started) * (1 - share) / share
            print(
                f"\r\033[K{role}: {share:4.0%}, about {left:.0f} s left ({phase})", end="", file=sys.stderr, flush=True
            )

    return show


def _device(source: Bundle, target: Target, precision: str, *, here: bool) -> Device:
    from lad_edge.runtime.gpu import Gpus, find_gpus
    from lad_edge.runtime.identity import identity

    origin = source.manifest.device
    source_sha256 = source.sha256 if origin is None else origin.source_sha256
    return identity(target, precision, source_sha256, find_gpus() if here else Gpus())


def _tensors(source: Bundle, manifest: Manifest, engines: dict[str, bytes]) -> dict[str, Any]:
    replaced = {graph.tensor for graph in source.manifest.graphs.values()}
    replaced |= {graph.tensor for graph, _ in source.sources().values()}
    replaced |= set(source.manifest.device.caches.values()) if source.manifest.device else set()
    tensors = {name: array for name, array in source.tensors.items() if name not in replaced}
    for role, (_, onnx) in source.sources().items():
        tensors[f"onnx/{role}"] = np.frombuffer(onnx, np.uint8)
        tensors[manifest.graphs[role].tensor] = np.frombuffer(engines[role], np.uint8)
    return tensors


def _write_proven(out: Path, manifest: Manifest, device: Device, tensors: dict[str, Any]) -> str:
    """Write a plan for this machine under another name, judge its golden frames by its engines, and only then call it `out`."""
    from lad_edge.inspector import Inspector
    from lad_edge.runtime.tensorrt import TensorRtRuntime

    trial = out.with_name(f".{out.name}.trial")
    try:
        bundles.write(trial, manifest, tensors)
        with Inspector(bundles.read(trial)) as inspector:  # raises ParityError
            compiled = inspector.runtime.compiled() if isinstance(inspector.runtime, TensorRtRuntime) else {}
    finally:
        trial.unlink(missing_ok=True)
    caches = {f"cache/{role}": np.frombuffer(cache, np.uint8) for role, cache in compiled.items()}
    proven = replace(device, caches={role: f"cache/{role}" for role in compiled})
    return bundles.write(out, replace(manifest, device=proven), tensors | caches)


def _document(device: Device, built: Built) -> dict[str, Any]:
    graphs = {
        role: {"size_bytes": len(engine), "seconds": built.seconds[role]} for role, engine in built.engines.items()
    }
    return {"device": asdict(device), "graphs": graphs}


def _lines(out: Path, device: Device, built: Built) -> Iterator[str]:
    for role, engine in built.engines.items():
        yield f"{role}: {len(engine) / 2**20:.2f} MiB, {built.seconds[role]:.1f} s"
    targets = ", ".join(device.compute_capabilities)
    yield f"{out}: {device.precision} for compute capability {targets}, {device.runtime} {device.version}"
    proven = (
        "its engines gave the golden frames their scores" if device.gpu else "its golden frames are judged at its start"
    )
    yield f"  {proven}; next: lad-edge run --engine {out} --camera 0"
