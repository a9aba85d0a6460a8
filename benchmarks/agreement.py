"""Does the edge judge as torch does? On every test image: python -m benchmarks.agreement RUN ENGINE [RUN ENGINE …].

RUN is a folder of `lad-edge train`, ENGINE a bundle that was exported from it. The trained networks, as torch computes them, and the
numpy reference kernels on one side; the engine's own graphs, runtime and native kernels on the other, both in f32 and with the
engine's calibration. This is the parity gate of the export (export/parity.py), on images that the export has not seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lad_edge.export.calibrate import Pipeline
from lad_edge.export.export import EXPORTERS
from lad_edge.export.exporter import Exported
from lad_edge.export.parity import Parity, compare, torch_answer
from numpy.typing import NDArray

from benchmarks.report import about, add_json_flag, measuring, table, write
from lad_edge import bundle
from lad_edge.datasets import open_dataset
from lad_edge.images import read_image
from lad_edge.runtime import open_runtime
from lad_edge.scoring import Normalisation
from lad_edge.training.fit import load_networks

PRECISION = "f32"
HEAD = (
    "detector",
    "data",
    "images",
    "verdicts equal",
    "score: worst",
    "score: mean",
    "maps: worst",
    "codes equal",
    "holds",
)


@dataclass(frozen=True)
class Agreement:
    """One engine beside the networks that it was exported from; errors as `lad_edge.export.parity.compare` defines them."""

    detector: str
    data: str
    run: str
    engine_sha256: str
    runtime: str
    parity: Parity


class Pictures(Sequence[NDArray[np.uint8]]):
    """Test images, read when they are asked for: all of them at once may be more than the memory holds."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # type: ignore[override]
        return read_image(self.paths[index])[0].astype(np.uint8, copy=False)


def main(words: Sequence[str] | None = None) -> list[Agreement]:
    """Compare every pair, print, write; what the file already says of other runs stays in it."""
    args = _arguments(words)
    measuring()
    found = [agreement(Path(run), Path(engine), args) for run, engine in args.pairs]
    print(table("The edge half against torch, all test images, f32", HEAD, [tuple(_row(one)) for one in found]))
    engines = {one["run"]: one for one in _written(args.json)}
    engines |= {one.run: asdict(one) | {"holds": one.parity.holds} for one in found}
    write(args.json, about(threads=args.threads, engines=list(engines.values())))
    return found


def _written(path: Path | None) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["engines"]) if path is not None and path.is_file() else []


def agreement(run: Path, engine: Path, args: argparse.Namespace) -> Agreement:
    """Judge all test images of the run's data set in both ways.

    Raises DataError for fewer than 32 images, and if run or images are gone; UsageError for a run on several categories.
    """
    trained, _, networks = load_networks(run)
    description = trained.of(None)
    dataset = open_dataset(Path(description.data), layout=description.layout)
    pictures = Pictures([record.path for record in dataset.select(split="test")])
    opened, exporter = bundle.read(engine), EXPORTERS[description.detector]
    manifest, calibration = opened.manifest, opened.calibration(PRECISION)
    places = None if calibration.places is None else opened.tensors[calibration.places]
    normalisation = Normalisation(calibration.normalisation, places)
    parts = Exported(opened.graphs(), manifest.parameters, opened.tensors)  # type: ignore[arg-type]
    with open_runtime(args.runtime, parts.graphs, precision=PRECISION, threads=args.threads) as runtime:
        edge = Pipeline(manifest.detector, manifest.contract, parts, runtime).answer(pictures, normalisation)
        name = f"{runtime.name} {runtime.version.split('-')[0]}"
    torch = torch_answer(exporter, networks, pictures, manifest.contract, manifest.parameters, normalisation)
    parity = compare(torch, edge, (calibration.threshold, calibration.threshold))
    return Agreement(description.detector, description.name, run.name, opened.sha256, name, parity)


def _row(one: Agreement) -> Iterator[object]:
    parity = one.parity
    yield from (one.detector, one.data, parity.images, parity.verdicts_equal)
    errors = (parity.max_relative_error, parity.mean_relative_error, max(parity.map_errors.values()))
    yield from (f"{error:.1e}" for error in errors)
    yield "" if parity.codes_equal is None else f"{parity.codes_equal:.4%}"
    yield "yes" if parity.holds else "NO"


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="RUN ENGINE", help="run folders, each with an engine of it behind")
    parser.add_argument("--runtime", choices=("openvino", "onnxruntime"), help="default: the best one installed here")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (default: %(default)s)")
    add_json_flag(parser)
    args = parser.parse_args(words)
    if len(args.files) % 2:
        parser.error("expected an engine behind each run folder: RUN ENGINE [RUN ENGINE …]")
    args.pairs = list(zip(args.files[::2], args.files[1::2], strict=True))
    return args


if __name__ == "__main__":
    main()
