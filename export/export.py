"""Run folder → `.lad`: fold, export, calibrate through each precision of this machine, prove parity, write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lad_edge.export import efficient_ad, fod, ladmim, ulsad
from lad_edge.export.calibrate import Answers, Measured, Pipeline, calibrate
from lad_edge.export.cost import cost
from lad_edge.export.evaluate import evaluate
from lad_edge.export.exporter import Exported, Exporter
from lad_edge.export.parity import MINIMUM_IMAGES, compare, require, torch_answer
from numpy.typing import NDArray

import lad_edge
from lad_edge import bundle
from lad_edge.bundle import GOLDEN_TOLERANCE, Contract, Golden, Manifest, bundle_name, spoilt
from lad_edge.datasets import open_dataset
from lad_edge.detectors.batches import Images
from lad_edge.errors import DataError, UsageError
from lad_edge.images import read_image
from lad_edge.inspector import load
from lad_edge.runtime import available, default_runtime, open_runtime
from lad_edge.thresholds import far_out, parse_policy
from lad_edge.training.fit import load_networks
from lad_edge.training.pictures import to_tensor
from lad_edge.training.run_folder import RunDescription
from lad_edge.views import Fitted, GoodViews, region

EXPORTERS: dict[str, Exporter] = {
    "efficient_ad": efficient_ad,
    "dfsc": efficient_ad,
    "ulsad": ulsad,
    "fod": fod,
    "ladmim": ladmim,
}
BY_PLACE = ("efficient_ad", "dfsc")  # detectors whose maps are judged place by place unless asked otherwise
MOST_FOR_PLACES = 400  # training images that are enough for mean and spread of a place

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class ExportOptions:
    """precisions: None = f32 and whatever this machine multiplies natively. golden: good frames that travel in the bundle.

    by_place: judge each place of the raw maps by the training images; None = where the detector gains by it.
    """

    policy: str = "conformal:5%"
    precisions: tuple[str, ...] | None = None
    golden: int = 2
    border_mode: str = "zero"
    threads: int | None = None
    data: Path | None = None  # where the images are now, if not where they were at training
    by_place: bool | None = None
    test: bool = True  # measure the engine on the test images, if there are any, and keep the figures in the bundle
    category: str | None = None  # of a run for several: the one that the engine is for
    gates: bool = True  # refuse pictures of other light, focus and place than the validation images have


def export_run(folder: Path, out: Path, options: ExportOptions) -> dict[str, Any]:
    """Export a finished run and return what was proven. Nothing is written unless parity holds.

    Raises DataError for missing images, UsageError for bad options, ParityError when torch and the exported pipeline disagree.
    """
    trained, config, networks = load_networks(folder)
    description = trained.of(options.category, options.data)
    root = Path(description.data)
    if trained.frames:
        _specialise(networks, config, description)
    validation = _read(root, description.validation)
    parity_images = validation + _read(root, description.train[: max(0, MINIMUM_IMAGES - len(validation))])
    exporter, by_place = EXPORTERS[description.detector], _by_place(description.detector, options.by_place)
    parts = exporter.export(networks, config, options.border_mode)
    contract = _contract(description, config.side, networks)
    golden = golden_frames(validation, options.golden)
    measured: dict[str, Measured] = {}
    proven: dict[str, Any] = {}
    expected: Answers | None = None
    for precision in _precisions(options):
        with open_runtime(None, parts.graphs, precision=precision, threads=options.threads) as runtime:
            pipeline = Pipeline(description.detector, contract, parts, runtime)
            training = _for_places(root, description.train) if by_place else None
            policy = parse_policy(options.policy)
            measured[precision] = calibrate(pipeline, exporter, validation, golden, policy, training)
            if expected is None:  # f32 is the first
                levels = measured["f32"].normalisation
                expected = torch_answer(exporter, networks, parity_images, contract, parts.parameters, levels)
            proven[precision] = _prove(expected, pipeline, measured, parity_images)
    views = _views(contract, validation) if options.gates else None
    manifest = _manifest(description, contract, parts, measured, proven, views)
    tensors: dict[str, NDArray[Any]] = {
        manifest.golden.frames: np.stack(golden),
        **parts.tables,
        **(views.tensors if views else {}),
        **{graph.tensor: np.frombuffer(onnx, np.uint8) for graph, onnx in parts.graphs.values()},
    }
    for one in measured.values():
        tensors |= one.tensors()
    sha256 = bundle.write(out, manifest, tensors)
    metrics = _test(out, root, description) if options.test else {}
    if metrics:
        sha256 = bundle.write(out, replace(manifest, metrics=metrics), tensors)
    scores = measured["f32"].validation_scores
    return {"bundle": str(out), "sha256": sha256, "parity": proven, "metrics": metrics} | {
        "thresholds": {name: one.calibration.threshold for name, one in measured.items()},
        "statement": measured["f32"].calibration.policy.statement,
        "far_out": {description.validation[i]: scores[i] for i in far_out(scores)},
    }


def _specialise(networks: Any, config: Any, description: RunDescription) -> None:
    """Give networks of several categories the look of one: its training images, for what they measure again."""
    if hasattr(networks, "specialise"):
        root, roi = Path(description.data), description.roi
        pictures = (_read(root, [name])[0] for name in description.train)
        pixels = to_tensor(pictures, description.pixel_format, config.side, roi)
        mean, std = networks.input_mean, networks.input_std
        networks.specialise(Images(pixels, config.seed, torch.device("cpu"), mean, std))


def golden_frames(validation: Sequence[Image], count: int) -> list[Image]:
    """Good frames of one size that are spread over the validation set, and one spoilt frame that must stay noticed."""
    if count < 1:
        raise UsageError(f"--golden {count}: at least 1 good frame has to travel in the bundle for the self-test")
    same = [image for image in validation if image.shape == validation[0].shape]
    good = [same[i] for i in np.linspace(0, len(same) - 1, min(count, len(same))).astype(int)]
    return [*good, spoilt(good[0])]


def _prove(
    expected: Answers, pipeline: Pipeline, measured: dict[str, Measured], images: Sequence[Image]
) -> dict[str, Any]:
    """Full precision must equal torch; a reduced one states its error and how many verdicts change under its own calibration."""
    precision = pipeline.runtime.precision
    own, full = measured[precision], measured["f32"]
    found = pipeline.answer(images, own.normalisation)
    parity = compare(expected, found, (full.calibration.threshold, own.calibration.threshold))
    if precision == "f32":
        require(parity, f"parity of {pipeline.runtime.name} f32 with torch")
    return parity.as_json() | {"runtime": f"{pipeline.runtime.name} {pipeline.runtime.version}"}


def _test(engine: Path, root: Path, description: RunDescription) -> dict[str, Any]:
    """Figures of the finished engine on the test images of the data set; empty if it has none of one kind."""
    dataset = open_dataset(root, layout=description.layout)
    labels = {record.label == "good" for record in dataset.select(split="test")}
    if labels != {True, False}:
        return {}
    with load(engine) as inspector:
        metrics = evaluate(inspector, dataset).metrics
    del metrics["seconds"]  # the same export gives the same bytes
    return metrics


def _by_place(detector: str, wanted: bool | None) -> bool:
    if wanted and detector not in BY_PLACE:
        raise UsageError(
            f"--by-place: {detector} has no levels by place, only {', '.join(BY_PLACE)} have; leave it out"
        )
    return detector in BY_PLACE if wanted is None else wanted


def _for_places(root: Path, names: Sequence[str]) -> Iterator[Image]:
    """Training images, read one by one; evenly chosen if there are many."""
    chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_FOR_PLACES)).round().astype(int))
    return (_read(root, [names[index]])[0] for index in chosen)


def _precisions(options: ExportOptions) -> list[str]:
    wanted = options.precisions or available()[default_runtime()]
    return ["f32", *(precision for precision in wanted if precision != "f32")]


def _contract(description: RunDescription, side: int, networks: Any) -> Contract:
    return Contract(
        width=description.width,
        height=description.height,
        pixel_format=description.pixel_format,
        roi=description.roi,
        size=(side, side),
        channel_order="rgb",
        resize="bilinear-antialias",
        mean=networks.input_mean,
        std=networks.input_std,
    )


def _views(contract: Contract, images: Sequence[Image]) -> Fitted | None:
    """What frames have to look like; None if frames of any size are judged, between which sharpness cannot be compared."""
    if contract.width is None:
        return None
    views = GoodViews()
    for image in images:
        views.add(region(image, contract.roi))
    return views.fit()


def _manifest(
    description: RunDescription,
    contract: Contract,
    parts: Exported,
    measured: dict[str, Measured],
    proven: dict[str, Any],
    views: Fitted | None,
) -> Manifest:
    return Manifest(
        name=bundle_name(description.name),
        detector=description.detector,
        tool_version=lad_edge.__version__,
        contract=contract,
        graphs={role: replace(graph, cost=cost(onnx)) for role, (graph, onnx) in parts.graphs.items()},
        calibrations={name: one.calibration for name, one in measured.items()},
        golden=Golden("golden/frames", {name: GOLDEN_TOLERANCE[name] for name in measured}),
        parameters=parts.parameters,
        parity=proven,
        provenance={
            **description.provenance,
            "config": dict(description.config),
            "train_images": len(description.train),
            "validation_images": len(description.validation),
        },
        metrics={},
        gates=views.gates if views else None,
    )


def _read(root: Path, names: Sequence[str]) -> list[Image]:
    images = []
    for name in names:
        if not (root / name).is_file():
            raise DataError(
                f"{root / name}: an image of the training is missing; pass --data with the folder where the data set is now"
            )
        image, _ = read_image(root / name)
        images.append(image.astype(np.uint8, copy=False))
    return images
