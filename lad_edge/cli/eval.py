"""lad-edge eval: a run folder or an engine file goes in, figures and pictures of its performance on a test set come out."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.cli.arguments import add_engine_options, add_json, positive_int, print_json

if TYPE_CHECKING:
    from lad_edge.datasets import Dataset
    from lad_edge.export.evaluate import Evaluation
    from lad_edge.inspector import Inspector
    from lad_edge.metrics.pictures import Example
    from lad_edge.metrics.sheets import Tile

_DESCRIPTION = """\
Measures on test images:

  image AUROC     good against anomalous images: all of them, each kind, mean of the kinds
  pixel AUROC     good against anomalous pixels of all images, where there are masks
  AUPRO@0.3       overlap of each connected defect, up to 30 % false pixels
  AU-sPRO         overlap of each MVTec LOCO defect, as far as defects_config.json asks for it, up to 1, 5, 10, 30 and
                  100 % false pixels: each kind, mean of the kinds
  and what the threshold does.
"""
_EPILOG = """\
examples:
  lad-edge eval runs/part                                   on the test images of the data set it was trained on
  lad-edge eval part.lad --data mvtec_loco/juice_bottle --out eval/
  lad-edge eval runs/ladmim-mvtec_loco-s --category juice_bottle

Writes metrics.json, roc.png, scores.png, contact_sheet.png, and examples.png with the middle image of each kind. A run folder
is exported first: the figures are those of the pipeline that runs on the line, not of the training code.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "eval",
        help="measure a trained detector on a test set (workstation)",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", type=Path, metavar="RUN|X.lad")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="data set with test images; default: the one of the training"
    )
    parser.add_argument("--category", metavar="NAME", help="of a run for several categories: the one to measure")
    parser.add_argument("--layout", default="auto", help="layout of the data; default: by the names of its folders")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where figures and pictures go; default: RUN/eval, or X-eval"
    )
    parser.add_argument(
        "--tiles", type=positive_int, default=20, metavar="N", help="images on the contact sheet (default: %(default)s)"
    )
    add_engine_options(parser)
    add_json(parser, "print the figures as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measures; returns 0."""
    from lad_edge.errors import UsageError
    from lad_edge.training.run_folder import read_description

    if args.what.is_dir():
        description = read_description(args.what).of(args.category, args.data)
        out = args.out or args.what / (f"eval-{args.category}" if args.category else "eval")
        with tempfile.TemporaryDirectory() as folder:
            engine = _export(args, Path(folder))
            return _measure(args, engine, Path(description.data), out)
    if args.category is not None:
        raise UsageError(f"--category {args.category}: an engine file is for one category; leave it out")
    if args.data is None:
        raise UsageError(f"eval {args.what}: an engine file does not know where test images are; pass --data DIR")
    return _measure(args, args.what, args.data, args.out or args.what.with_name(f"{args.what.stem}-eval"))


def _export(args: argparse.Namespace, folder: Path) -> Path:
    from lad_edge.export.export import ExportOptions, export_run

    engine = folder / "engine.lad"
    export_run(args.what, engine, ExportOptions(data=args.data, category=args.category, test=False))
    return engine


def _measure(args: argparse.Namespace, engine: Path, data: Path, out: Path) -> int:
    from tqdm import tqdm

    from lad_edge.datasets import open_dataset
    from lad_edge.export.evaluate import evaluate
    from lad_edge.inspector import load

    dataset = open_dataset(data, layout=args.layout)
    with load(engine, runtime=args.runtime, precision=args.precision, threads=args.threads) as inspector:
        found = evaluate(
            inspector, dataset, lambda records: tqdm(records, unit="image", disable=not sys.stderr.isatty())
        )
        metrics = found.metrics | {
            "engine": f"{inspector.runtime.name} {inspector.runtime.precision}",
            "data": dataset.category,
        }
        _write(out, found, metrics, inspector, args.tiles)
    if args.json:
        print_json(metrics)
    else:
        _print(metrics, dataset, found, out)
    return 0


def _write(out: Path, found: Evaluation, metrics: dict[str, object], inspector: Inspector, tiles: int) -> None:
    from lad_edge.metrics.pictures import example_picture, roc_picture, score_picture
    from lad_edge.metrics.sheets import contact_sheet

    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
    scores: dict[str, list[float]] = {}
    for one in found.judged:
        scores.setdefault(one.record.label, []).append(one.result.score or 0.0)
    roc_picture(scores, out / "roc.png")
    score_picture(scores, inspector.threshold, out / "scores.png")
    contact_sheet(_tiles(found, inspector, tiles), out / "contact_sheet.png")
    example_picture(_examples(found, inspector), out / "examples.png")


def _examples(found: Evaluation, inspector: Inspector) -> list[Example]:
    """Of each kind, good first, the image in the middle of the ranks: neither the best nor the worst that can be shown."""
    from lad_edge.export.evaluate import to_frame
    from lad_edge.metrics.pictures import Example
    from lad_edge.stream.overlays import as_bgr, draw, heat_span

    span = heat_span(inspector.bundle.scores(inspector.runtime.precision), inspector.threshold)
    roi = inspector.bundle.manifest.contract.roi
    examples = []
    for label in sorted({one.record.label for one in found.judged}, key=lambda label: (label != "good", label)):
        ranked = sorted((one for one in found.judged if one.record.label == label), key=lambda one: one.rank)
        one = ranked[len(ranked) // 2]
        frame = to_frame(one.record, one.result.seq)
        title = f"{label.replace('_', ' ')}: {one.record.path.stem}"
        examples.append(Example(title, as_bgr(frame), draw(frame, one.result, roi, span), one.result.findings))
    return examples


def _tiles(found: Evaluation, inspector: Inspector, count: int) -> list[Tile]:
    """The same number of images of each label, spread over their scores."""
    import numpy as np

    from lad_edge.export.evaluate import to_frame
    from lad_edge.metrics.sheets import Tile, heat
    from lad_edge.stream.overlays import as_bgr

    labels = sorted({one.record.label for one in found.judged})
    good_scores = [one.result.score or 0.0 for one in found.judged if one.record.label == "good"]
    low = float(np.median(good_scores)) if good_scores else 0.0
    tiles: list[Tile] = []
    for label in labels:
        ranked = sorted((one for one in found.judged if one.record.label == label), key=lambda one: one.rank)
        for position in np.linspace(0, len(ranked) - 1, min(len(ranked), max(1, count // len(labels)))).astype(int):
            one = ranked[position]
            bgr = as_bgr(to_frame(one.record, one.result.seq))
            caption = f"{label.split('_')[0]} {one.record.path.stem}: {one.result.verdict.value} {one.result.score:.3f}"
            heated = heat(bgr, one.result.anomaly_map, min(low, inspector.threshold), inspector.threshold)
            tiles.append(Tile(caption, (bgr, heated)))
    return tiles


def _print(metrics: dict[str, object], dataset: Dataset, found: Evaluation, out: Path) -> None:
    print(f"{dataset.category}: {metrics['images']}, {metrics['engine']}, {metrics['seconds']} s")
    for name in (
        "image_auroc",
        "image_auroc_by_label",
        "image_auroc_mean",
        "pixel_auroc",
        "aupro_0.3",
        "au_spro_by_label",
        "au_spro_mean",
        "threshold",
        "false_rejects",
        "misses",
    ):
        if name in metrics:
            print(f"  {name.replace('_', ' '):22} {_text(metrics[name])}")
    for one in found.unjudged:
        print(f"  not judged: {one.record.path}: {one.result.detail}")
    print(f"figures and pictures: {out}")


def _text(figure: object) -> str:
    """A table of figures in one line, each with its name."""
    if not isinstance(figure, dict):
        return str(figure)
    cells = (
        f"{name} ({_text(value)})" if isinstance(value, dict) else f"{name}: {value}" for name, value in figure.items()
    )
    return ", ".join(cells)
