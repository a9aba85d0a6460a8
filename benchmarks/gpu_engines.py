"""Engine files of every detector at its paper's width, and what a CPU says of some frames: python -m benchmarks.gpu_engines.

Weights are seeded, not trained: speed does not depend on them. Batch norms and standardisations are measured on pictures of the kit, so
that values have the size that they have after training. For accuracy there are the shipped demonstration and an engine that is taught
here. Each is made in a process of its own, all at once: python -m benchmarks.gpu_engines --json OUT --work FOLDER [--only NAME].
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import lad_edge
from benchmarks.engines import HEIGHT, SEED, WIDTH, frames, frames_file
from benchmarks.gpu_step import Place, Step, leave, step_arguments
from lad_edge import assets, bundle

HEADLINE, SMALL, DEMO, TAUGHT = "efficient_ad_s", "efficient_ad_xs", "demo_dfsc", "taught_masked_ridge"
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"efficient_ad_{size}": ("efficient_ad", {"size": size}) for size in ("xs", "s", "m")},
    "ladmim": ("ladmim", {"test_masks": 16}),
    "fod": ("fod", {"backbone": "wide_resnet50_2"}),
    "ulsad": ("ulsad", {"backbone": "wide_resnet50_2"}),
}  # detector, and what differs from its default
NAMES = (HEADLINE, "ladmim", DEMO, TAUGHT, "fod", "ulsad", "efficient_ad_m")  # the most important ones first
REHEARSED = (SMALL, DEMO)
PICTURES = 8  # all are judged and taught; the first ones settle networks, the last ones calibrate
CALIBRATING = 4
POLICY = "quantile:0.95"
THREADS = int(os.environ.get("OMP_NUM_THREADS", "0")) or None  # of an engine of the CPU; None = all cores


def main() -> None:
    """All in processes of their own, or one in this one."""
    args = step_arguments(
        __doc__, "benchmarks.gpu_engines", only={"choices": (*NETWORKS, DEMO, TAUGHT), "help": "make this one alone"}
    )
    step, place = Step(args.place), args.place
    frames_file(PICTURES, place.work)
    if args.only:
        step.ask(args.only, partial(make, args.only, place.work))
    else:
        names = REHEARSED if place.rehearse else NAMES
        with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
            running = {name: pool.submit(_in_process, name, place, len(names)) for name in names}
            for name, answer in running.items():
                step.ask(name, answer.result)
    leave(step)


def engine_file(name: str, work: Path) -> Path:
    """Where the engine file of that name lies."""
    return work / "engines" / f"{name}.lad"


def expected_file(made: Path) -> Path:
    """What the CPU says of the pictures: `scores` (n,), `maps` (n, h, w) and `ng` (n,)."""
    return made.with_suffix(".npz")


def pictures_for(opened: bundle.Bundle, work: Path) -> list[np.ndarray]:
    """Pictures that no engine was taught or trained on, as an engine wants them: 1280 × 1024 unless its frames have another size."""
    contract = opened.manifest.contract
    size = (contract.width or WIDTH, contract.height or HEIGHT)
    return [
        picture if picture.shape[1::-1] == size else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        for picture in frames(PICTURES, work)
    ]


def make(name: str, work: Path) -> dict[str, object]:
    """Write the engine file and what the CPU says of the pictures."""
    began, made = time.monotonic(), engine_file(name, work)
    made.parent.mkdir(parents=True, exist_ok=True)
    if name == DEMO:
        shutil.copyfile(Path(assets.__file__).parent / "demo.lad", made)
    elif name == TAUGHT:
        teach(made, work)
    else:
        export(name, made, work)
    judge_on_cpu(made, work)
    return {"mb": round(made.stat().st_size / 1e6, 1), "seconds": round(time.monotonic() - began, 1)}


def judge_on_cpu(made: Path, work: Path) -> None:
    """The scores, maps and verdicts that a GPU has to come to, in f32."""
    with lad_edge.load(made, precision="f32", threads=THREADS) as inspector:
        results = [inspector(picture) for picture in pictures_for(inspector.bundle, work)]
        threshold = inspector.threshold
    np.savez(
        expected_file(made),
        scores=np.array([result.score for result in results], np.float64),
        maps=np.stack([np.asarray(result.anomaly_map) for result in results]),
        ng=np.array([result.verdict.value == "NG" for result in results]),
        threshold=threshold,
    )


def teach(made: Path, work: Path) -> None:
    """As `lad-edge teach` does it."""
    from lad_edge.teaching import Lesson, Options

    with Lesson(Options(name="kit", precision="f32", threads=THREADS)) as lesson:
        for index, picture in enumerate(frames(PICTURES, work)):
            lesson.show(str(index), picture, "bgr8")
        lesson.finish().write(made)


def networks(name: str, work: Path) -> tuple[Any, Any]:
    """Configuration and torch networks, the same ones whenever they are asked for."""
    import torch

    from lad_edge.detectors.batches import Images
    from lad_edge.training.fit import METHODS, make_config
    from lad_edge.training.pictures import to_tensor

    detector, settings = NETWORKS[name]
    config = make_config(detector, settings)
    torch.manual_seed(SEED)
    made = METHODS[detector].networks(config).requires_grad_(False)
    pixels = to_tensor(list(frames(PICTURES, work)[:CALIBRATING]), "bgr8", config.side, None)
    images = Images(pixels, SEED, torch.device("cpu"), made.input_mean, made.input_std)
    if hasattr(made, "backbone"):
        settle(made.backbone, images.normalise(pixels))
    made.prepare(images)
    if hasattr(made, "specialise"):
        made.specialise(images)
    return config, made.eval()


def settle(network: Any, batch: Any) -> None:
    """Measure the statistics of untrained batch norms: values would otherwise grow from layer to layer, beyond what f16 holds."""
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches: of this one
        norm.train()
    with torch.inference_mode():
        network(batch)
    for norm in norms:
        norm.eval()


def export(name: str, made: Path, work: Path) -> None:
    """Through the product's own exporter and calibration."""
    from lad_edge.export.calibrate import Pipeline, calibrate  # type: ignore[import-not-found,unused-ignore]
    from lad_edge.export.export import EXPORTERS, golden_frames  # type: ignore[import-not-found,unused-ignore]

    from lad_edge.runtime import open_runtime
    from lad_edge.thresholds import parse_policy

    detector = NETWORKS[name][0]
    config, trained = networks(name, work)
    parts = EXPORTERS[detector].export(trained, config, "zero")
    contract = bundle.Contract(
        width=WIDTH,
        height=HEIGHT,
        pixel_format="bgr8",
        roi=None,
        size=(config.side, config.side),
        channel_order="rgb",
        resize="bilinear-antialias",
        mean=trained.input_mean,
        std=trained.input_std,
    )
    validation = list(frames(PICTURES, work)[-CALIBRATING:])
    golden = golden_frames(validation, 1)
    with open_runtime(None, parts.graphs, precision="f32", threads=THREADS) as runtime:
        pipeline = Pipeline(detector, contract, parts, runtime)
        measured = calibrate(pipeline, EXPORTERS[detector], validation, golden, parse_policy(POLICY))
    manifest = bundle.Manifest(
        name=name,
        detector=detector,
        tool_version=lad_edge.__version__,
        contract=contract,
        graphs={role: replace(graph) for role, (graph, _) in parts.graphs.items()},
        calibrations={"f32": measured.calibration},
        golden=bundle.Golden("golden/frames", {"f32": bundle.GOLDEN_TOLERANCE["f32"]}),
        parameters=parts.parameters,
        provenance={"seed": SEED},
    )
    tensors = {graph.tensor: np.frombuffer(onnx, np.uint8) for graph, onnx in parts.graphs.values()}
    tensors |= {"golden/frames": np.stack(golden), **parts.tables, **measured.tensors()}
    bundle.write(made, manifest, tensors)


def _in_process(name: str, place: Place, beside: int) -> dict[str, object]:
    """Torch, its threads and whatever goes wrong stay out of the others. beside: how many are made at once."""
    found = place.json.with_name(f"engine_{name}.json")
    words = ["--json", str(found), "--work", str(place.work), "--only", name]
    threads = str(max(1, (os.cpu_count() or 1) // beside))
    known = {**os.environ, "OMP_NUM_THREADS": threads}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_engines", *words],
        env=known,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr).strip()[-1500:])
    made = engine_file(name, place.work)
    return {"mb": round(made.stat().st_size / 1e6, 1), "seconds": round(time.monotonic() - began, 1)}


if __name__ == "__main__":
    main()
