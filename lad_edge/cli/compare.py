"""lad-edge compare: two engines and a test set go in; who is right where, how surely and how fast, comes out."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge import bundle as bundles
from lad_edge.cli.arguments import add_engine_options, add_json, positive_int, print_json
from lad_edge.cli.comparison import ALL, NAMES, describe, judge
from lad_edge.cli.judging import judge_now, percentiles
from lad_edge.errors import SinkError, UsageError
from lad_edge.export.evaluate import to_frame
from lad_edge.inspector import Inspector, Options
from lad_edge.values import Frame, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from lad_edge.bundle import Bundle
    from lad_edge.cli.comparison import Pair, Two
    from lad_edge.metrics.sheets import Image, Tile

_EPILOG = """\
examples:
  lad-edge compare taught.lad trained.lad mvtec_loco/juice_bottle
  lad-edge compare monday.lad friday.lad parts/ --out monday-friday/ --threads 1

Both judge the same test images, each at its own threshold; UNKNOWN counts as rejected. The interval of the AUROC difference
is DeLong's for two tests of the same images, 95 %: if it holds 0, these images do not tell which engine is better. Latency
is taken in turns, one part by this engine and one by that, in one process. --out gets comparison.json and pictures of all
parts on which the verdicts differ: as they came, with the map of the first and with the map of the second engine.
"""

_MOST_LISTED, _MOST_PICTURES = 20, 16
_TILES_TO_A_SHEET, _COLUMNS, _SIDE_PX = 12, 2, 300


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "compare",
        help="judge a test set with two engines and show where they differ",
        description="Judges the same test images with two engines: accuracy, verdicts that differ, latency.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("engines", type=Path, nargs=2, metavar="X.lad", help="two engines for the same frames")
    parser.add_argument("data", type=Path, metavar="DATA", help="data set with test images, as for eval")
    parser.add_argument("--layout", default="auto", help="layout of the data; default: by the names of its folders")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where pictures and comparison.json go")
    parser.add_argument("--frames", type=positive_int, default=200, help="parts timed by each; default: 200")
    parser.add_argument("--warmup", type=positive_int, default=20, help="parts before the timing; default: 20")
    add_engine_options(parser)
    add_json(parser, "print the comparison as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Compares; returns 0."""
    from lad_edge.datasets import open_dataset

    engines = bundles.read(args.engines[0]), bundles.read(args.engines[1])
    _check_frames(engines)
    dataset = open_dataset(args.data, layout=args.layout)
    if args.out is not None:
        _make_folder(args.out)
    with ExitStack() as stack:
        two = _open(args, engines, frozenset(Verdict), stack)
        compared = judge(two, dataset)
        document = describe(two, dataset, compared)
        if args.out is not None:
            document["pictures"] = [str(path) for path in _write_pictures(args.out, two, compared.pairs)]
    document["latency"] = _latency(args, engines, compared.pairs)
    if args.out is not None:
        (args.out / "comparison.json").write_text(json.dumps(document, indent=1) + "\n")
    if args.json:
        print_json(document)
    else:
        print("\n".join(_text(document)))
    return 0


def _check_frames(engines: tuple[Bundle, Bundle]) -> None:
    """Raises UsageError if no frame can satisfy both contracts."""
    first, second = (engine.manifest.contract for engine in engines)
    sizes = [(contract.width, contract.height) for contract in (first, second) if contract.width]
    if len(set(sizes)) > 1 or first.pixel_format != second.pixel_format:
        frames = " and ".join(
            f"{contract.width or 'any'}x{contract.height or 'any'} {contract.pixel_format}"
            for contract in (first, second)
        )
        raise UsageError(
            f"the engines are for frames of {frames}: no image is for both; compare engines of one camera setting"
        )


def _make_folder(folder: Path) -> None:
    """Before the work. Raises SinkError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SinkError(f"cannot make the folder {folder}: {exc.strerror}; choose another one: --out") from exc


def _open(
    args: argparse.Namespace, engines: tuple[Bundle, Bundle], maps_for: Collection[Verdict], stack: ExitStack
) -> Two:
    options = Options(args.runtime, args.precision, args.threads, maps_for=maps_for)
    first, second = (stack.enter_context(Inspector(engine, options)) for engine in engines)
    return first, second


def _latency(args: argparse.Namespace, engines: tuple[Bundle, Bundle], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Capture to verdict in turns, without a copy of the map: as `run` works. The engine that begins changes with every part."""
    spread = np.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_PICTURES)).astype(int)
    pictures = [np.asarray(to_frame(pairs[index].record, 0).image, np.uint8) for index in spread]
    samples: tuple[list[float], list[float]] = ([], [])
    with ExitStack() as stack:
        two = _open(args, engines, frozenset(), stack)
        for seq in range(args.warmup + args.frames):
            for side in (seq % 2, 1 - seq % 2):
                result = judge_now(two[side], seq + 1, pictures[seq % len(pictures)])
                if seq >= args.warmup:
                    samples[side].append(result.stages_us["total"])
        machine = two[0].runtime.device
    return {"machine": machine, "frames": args.frames, "total_us": [percentiles(values) for values in samples]}


def _write_pictures(out: Path, two: Two, pairs: Sequence[Pair]) -> list[Path]:
    """Sheets of the parts on which the verdicts differ, those where the first engine alone is right at the front."""
    from lad_edge.metrics.sheets import contact_sheet

    differing = sorted((pair for pair in pairs if pair.differs), key=lambda pair: pair.right != (True, False))
    paths = []
    for start in range(0, len(differing), _TILES_TO_A_SHEET):
        tiles = [_tile(pair, two) for pair in differing[start : start + _TILES_TO_A_SHEET]]
        paths.append(out / f"disagreements-{start // _TILES_TO_A_SHEET + 1}.png")
        contact_sheet(tiles, paths[-1], _COLUMNS, _SIDE_PX)
    return paths


def _tile(pair: Pair, two: Two) -> Tile:
    from lad_edge.metrics.sheets import Tile
    from lad_edge.stream.overlays import as_bgr

    frame = to_frame(pair.record, 0)
    shown = [_shown(frame, result, inspector) for result, inspector in zip(pair.results, two, strict=True)]
    said = "   ".join(
        f"{name}: {result.verdict.value} {result.score:.3g} (limit {result.threshold:.3g})"
        for name, result in zip(NAMES, pair.results, strict=True)
    )
    return Tile(f"{_where(pair.record.path)}   {said}", (as_bgr(frame), *shown))


def _shown(frame: Frame, result: Result, inspector: Inspector) -> Image:
    from lad_edge.stream.overlays import heat_span, marked

    span = heat_span(inspector.bundle.scores(inspector.runtime.precision), inspector.threshold)
    return marked(frame, result, inspector.bundle.manifest.contract.roi, span)


def _where(path: Path) -> str:
    return str(Path(path.parent.name, path.name))


def _text(document: Mapping[str, Any]) -> Iterator[str]:
    images, engines = document["images"], document["engines"]
    yield f"{document['data']}: " + ", ".join(f"{count} {label}" for label, count in images.items())
    yield from (f"  left out: {line}" for line in document["left_out"])
    for name, engine in zip(NAMES, engines, strict=True):
        yield (
            f"{name}  {engine['path']}: {engine['name']} ({engine['detector']}), {engine['runtime']} {engine['precision']}, "
            f"{engine['threads']} threads"
        )
    yield f"{'':38}{NAMES[0]:>12}{NAMES[1]:>12}   B - A"
    yield from _auroc_lines(document)
    for row in ("threshold", "false_rejects", "misses"):
        cells = (engine[row] if isinstance(engine[row], str) else f"{engine[row]:.5g}" for engine in engines)
        yield _row(row.replace("_", " "), cells)
    first, second = document["latency"]["total_us"]
    for share in ("p50", "p95", "p99"):
        cells = (f"{figures[share] / 1e3:.3f}" for figures in (first, second))
        yield _row(f"frame to verdict, {share}, ms", cells)
    yield f"measured on {document['latency']['machine']}, {document['latency']['frames']} parts each, in turns"
    yield from _disagreement_lines(document)


def _auroc_lines(document: Mapping[str, Any]) -> Iterator[str]:
    differences, engines = document["auroc_difference"], document["engines"]
    if not differences:
        yield "  no image AUROC: it needs good and anomalous test images"
    for label, difference in differences.items():
        figures = [
            engine["image_auroc"] if label == ALL else engine["image_auroc_by_label"][label] for engine in engines
        ]
        interval = difference["interval"]
        sure = f"95 %: {interval[0]:+.3f} to {interval[1]:+.3f}" if interval else "no interval: all are placed alike"
        cells = (f"{figure:.4f}" for figure in figures)
        yield f"{_row(f'image AUROC, {label}', cells)}   {difference['value']:+.3f} ({sure})"


def _row(name: str, cells: Iterator[str]) -> str:
    return f"  {name.replace('_', ' '):36}" + "".join(f"{cell:>12}" for cell in cells)


def _disagreement_lines(document: Mapping[str, Any]) -> Iterator[str]:
    found, right = document["disagreements"], document["right"]
    yield (
        f"verdicts differ on {len(found)} of {sum(right.values())} images: A alone is right on {right['first_alone']}, B alone on "
        f"{right['second_alone']}; both are right on {right['both']}, neither on {right['neither']}"
    )
    for one in found[:_MOST_LISTED]:
        said = ", ".join(
            f"{name} {verdict} {score:.4g}"
            for name, verdict, score in zip(NAMES, one["verdicts"], one["scores"], strict=True)
        )
        yield f"  {_where(Path(one['image']))}: {said}"
    if len(found) > _MOST_LISTED:
        yield f"  and {len(found) - _MOST_LISTED} more: see --json or --out"
    if "pictures" in document:
        yield from (f"pictures: {path}" for path in document["pictures"])
