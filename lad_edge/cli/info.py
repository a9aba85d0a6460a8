"""lad-edge info: an engine file goes in; what it holds, how it was calibrated and where it comes from comes out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lad_edge.bundle import HISTORY, Bundle, Cost, Gates, Manifest, changes_of, read
from lad_edge.cli.arguments import add_json, print_json
from lad_edge.scoring.thumbnails import ENDS, PICTURES
from lad_edge.views import Painter

_EPILOG = """\
examples:
  lad-edge info part.lad
  lad-edge info part.lad --json | jq .manifest.calibrations

The whole file is verified first: a file that is shown is a file that would run.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "info",
        help="show what an engine file holds",
        description="Verifies an engine file and shows its contract, networks, calibration, parity and provenance.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="X.lad", help="or a plan")
    add_json(parser, "the manifest as JSON, with size and sha256 of the file")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Prints the file's content."""
    bundle = read(args.file)
    if args.json:
        print_json(document(bundle))
    else:
        print("\n".join(_lines(bundle)))
    return 0


def document(bundle: Bundle) -> dict[str, Any]:
    """Everything about a bundle but the tensors' contents, as JSON values."""
    return {
        "path": str(bundle.path),
        "sha256": bundle.sha256,
        "size_bytes": bundle.path.stat().st_size,
        "manifest": bundle.manifest.to_json(),
    }


def _lines(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    yield f"{bundle.path}: {manifest.name}, detector {manifest.detector}, made by lad-edge {manifest.tool_version}"
    yield f"  {_mib(bundle.path.stat().st_size)}, sha256 {bundle.sha256}, verified"
    yield from _device_lines(bundle)
    yield from _contract_lines(bundle)
    yield from _graph_lines(bundle)
    yield from _calibration_lines(bundle)
    yield from _gate_lines(bundle.manifest.gates)
    for title in ("parameters", "parity", "metrics"):
        yield from _free_lines(title, getattr(manifest, title))
    yield from _free_lines("provenance", {key: value for key, value in manifest.provenance.items() if key != HISTORY})
    yield from _history_lines(manifest)


def _device_lines(bundle: Bundle) -> Iterator[str]:
    device = bundle.manifest.device
    if device is None:
        return
    yield "device"
    targets = ", ".join(device.compute_capabilities)
    yield f"  {device.precision} engines for compute capability {targets}, {device.runtime} {device.version}"
    gpu = device.gpu or "a machine without its GPU"
    versions = [f"{name} {found}" for name, found in (("driver", device.driver), ("CUDA", device.cuda)) if found]
    yield f"  built on {', '.join([gpu, device.system, *versions])}, from the bundle of sha256 {device.source_sha256}"


def _contract_lines(bundle: Bundle) -> Iterator[str]:
    contract = bundle.manifest.contract
    geometry = "any size" if contract.width is None else f"{contract.width}×{contract.height} px"
    roi = "all of it" if contract.roi is None else "x {}, y {}, {}×{} px".format(*contract.roi)
    yield "frames"
    registration = bundle.manifest.registration
    if registration is not None:
        roi += ", which follows the part by up to {} px to each side and {} px up and down".format(
            *registration.most_px
        )
    painter = Painter.of(bundle)
    if painter is not None:
        roi += f", of which a mask hides {1 - painter.looked_at.mean():.0%}"
    yield f"  {geometry}, {contract.pixel_format}; inspected: {roi}"
    yield f"  network input {contract.size[1]}×{contract.size[0]} px {contract.channel_order}, {contract.resize}"
    frames = bundle.golden_frames
    yield f"  {len(frames)} golden frames {frames.shape[2]}×{frames.shape[1]} px for the self-test"
    yield from _thumbnail_lines(bundle.tensors)


def _thumbnail_lines(tensors: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """Somebody's parts may be confidential."""
    if PICTURES in tensors and ENDS in tensors:
        count, size = np.count_nonzero(np.diff(tensors[ENDS], prepend=0)), tensors[PICTURES].nbytes
        yield f"  {count} small pictures of good parts, {_mib(size)}, to be shown beside what is found"


def _graph_lines(bundle: Bundle) -> Iterator[str]:
    yield "networks"
    for role, graph in bundle.manifest.graphs.items():
        shapes = f"{_shapes(graph.inputs)} → {_shapes(graph.outputs)}"
        yield f"  {role}: " + ", ".join(
            [
                graph.format + (", always f32" if graph.precision == "f32" else ""),
                _mib(len(bundle.graph_bytes(role))),
                *_cost(graph.cost),
                shapes,
            ]
        )
    costs = [graph.cost for graph in bundle.manifest.graphs.values() if graph.cost]
    if len(costs) == len(bundle.manifest.graphs) > 1:
        whole = Cost(sum(cost.parameters for cost in costs), sum(cost.macs for cost in costs))
        yield f"  together: {', '.join(_cost(whole))}"


def _calibration_lines(bundle: Bundle) -> Iterator[str]:
    yield "calibration"
    for precision, calibration in bundle.manifest.calibrations.items():
        scores, policy = bundle.scores(precision), calibration.policy
        yield f"  {precision} through {calibration.runtime}: threshold {calibration.threshold:.6g} ({policy.statement})"
        low, middle, high = np.quantile(scores, (0.0, 0.5, 1.0))
        yield f"    scores of {len(scores)} good parts: {low:.4g} to {high:.4g}, median {middle:.4g}"


def _gate_lines(gates: Gates | None) -> Iterator[str]:
    if gates is None:
        return
    yield "pictures that are not judged"
    yield f"  dark: brightest 5 % of the pixels under grey {gates.brightness:.0f}, and half of them under {gates.median:.0f}"
    yield f"  saturated: over {gates.saturated:.1%} of the pixels white"
    yield f"  flat: contrast under {gates.contrast:.3f}; blurred: sharpness under {gates.sharpness:.3f}"
    if gates.shift is not None:
        yield "  misplaced: over {:.1%} of the width or {:.1%} of the height from the usual place".format(*gates.shift)
    yield f"  these limits lie {gates.statement}"


def _history_lines(manifest: Manifest) -> Iterator[str]:
    changes = changes_of(manifest)
    if changes:
        yield "history, the last change at the end"
    for change in changes:
        yield f"  {change.utc}: {change.why}; before it the engine of sha256 {change.parent_sha256[:12]}…"


def _free_lines(title: str, values: Mapping[str, object]) -> Iterator[str]:
    if values:
        yield title
        for name, value in flat(values):
            yield f"  {name}: {value}"


def flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested mappings as (dotted name, value)."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cost(cost: Cost | None) -> list[str]:
    """Parameters and multiply-accumulates for one frame, where they were counted."""
    return [] if cost is None else [f"{cost.parameters / 1e6:.4g} M parameters", f"{cost.macs / 1e9:.4g} GMAC"]


def _shapes(tensors: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in tensors.items())


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.2f} MiB"
