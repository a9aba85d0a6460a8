"""A tiny detector, exported, calibrated, bundled and run by the real parts; it fires on bright and on coloured spots."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from lad_edge import bundle as bundles
from lad_edge.bundle import Calibration, Contract, Golden, Graph, Manifest, Policy
from lad_edge.kernels import quantiles
from lad_edge.runtime import Runtime, open_runtime
from lad_edge.scoring import open_calibrated
from lad_edge.thresholds import choose

SIDE, CELL = 32, 4
MAPS = SIDE // CELL
HEIGHT, WIDTH = 48, 64
GRAPH = Graph("graph/detector", "onnx", {"image": (1, 3, SIDE, SIDE)}, {"maps": (1, 2, MAPS, MAPS)})
PARAMETERS = {"border": 0, "border_mode": "zero", "sigmoid": False, "maps_side": MAPS}

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Recipe:
    """What differs between the tiny bundles of the tests."""

    pixel_format: str = "bgr8"
    geometry: tuple[int | None, int | None] = (WIDTH, HEIGHT)
    roi: tuple[int, int, int, int] | None = None
    dark_is_nan: bool = False  # the network takes the root of a negative number where a pixel is black
    envelope: tuple[float, float] = (-10.0, 1e6)
    policy: tuple[str, float] = ("conformal", 0.05)
    good: int = 60
    golden_error: float = 0.0  # added to the stated golden scores
    parameters: dict[str, object] = field(default_factory=lambda: dict(PARAMETERS))


def good_picture(seed: int, shape: tuple[int, ...] = (HEIGHT, WIDTH, 3)) -> Picture:
    """Grey with sensor noise."""
    noise = np.random.default_rng(seed).normal(128.0, 6.0, shape)
    return np.clip(np.rint(noise), 0, 255).astype(np.uint8)


def spotted_picture(seed: int, colour: tuple[int, ...] = (255, 255, 255)) -> Picture:
    """A good picture with a spot of 16 × 16 px at x 24, y 16."""
    picture = good_picture(seed)
    picture[16:32, 24:40] = colour
    return picture


BLUE_SPOT = (255, 128, 0)  # blue for a BGR network: its mean is grey, only the logical branch sees it


def write_bundle(path: Path, recipe: Recipe) -> Path:
    """Exports, calibrates and writes."""
    width, height = recipe.geometry
    contract = Contract(
        width=width,
        height=height,
        pixel_format=recipe.pixel_format,
        roi=recipe.roi,
        size=(SIDE, SIDE),
        channel_order="rgb",
        resize="bilinear-antialias",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    graph = network(dark_is_nan=recipe.dark_is_nan)
    channels: tuple[int, ...] = () if recipe.pixel_format == "mono8" else (3,)
    good = [good_picture(1000 + i, (height or HEIGHT, width or WIDTH, *channels)) for i in range(recipe.good)]
    manifest = Manifest(
        name="tiny",
        detector="efficient_ad",
        tool_version="0.1.0",
        contract=contract,
        graphs={"detector": GRAPH},
        calibrations={},
        golden=Golden("golden/frames", {"f32": 1e-3}),
        parameters=recipe.parameters,  # type: ignore[arg-type]
        provenance={"seed": 0},
    )
    with open_runtime(None, {"detector": (GRAPH, graph)}, precision="f32", threads=1) as runtime:
        calibration, scores, golden = calibrate(manifest, runtime, good, recipe)
    tensors = {
        "graph/detector": np.frombuffer(graph, np.uint8),
        "scores/f32": np.sort(scores),
        "golden/frames": np.stack(good[:4]),
        "golden/f32": golden + recipe.golden_error,
    }
    bundles.write(path, with_calibration(manifest, calibration), tensors)
    return path


def with_calibration(manifest: Manifest, calibration: Calibration) -> Manifest:
    return replace(manifest, calibrations={"f32": calibration})


def calibrate(
    manifest: Manifest, runtime: Runtime, good: list[Picture], recipe: Recipe
) -> tuple[Calibration, NDArray[np.float64], NDArray[np.float64]]:
    """As the exporter does it: quantiles of the raw maps, then scores through the real scorer."""
    unit = Calibration(
        runtime=runtime.name,
        normalisation={"structural": (0.0, 0.1), "logical": (0.0, 0.1)},  # the identity: the raw maps
        threshold=0.0,
        policy=Policy("fixed", 0.0, 0, "none yet"),
        scores="scores/f32",
        envelope=recipe.envelope,
        golden_scores="golden/f32",
    )
    scorer = open_calibrated(manifest, unit, runtime, good[0].shape, recipe.pixel_format, {})
    raw = []
    for picture in good:
        scorer.enqueue(picture)
        scorer.wait()
        raw.append(scorer.maps[0].copy())  # type: ignore[attr-defined]
    maps = np.stack(raw)
    low_high = {
        branch: tuple(float(q) for q in quantiles(np.ascontiguousarray(maps[:, i]), (0.9, 0.995)))
        for i, branch in enumerate(("structural", "logical"))
    }
    if recipe.pixel_format == "mono8":  # no colour: the logical map is constant
        low_high["logical"] = (0.0, 0.1)
    normalised = replace(unit, normalisation=low_high)  # type: ignore[arg-type]
    scorer = open_calibrated(manifest, normalised, runtime, good[0].shape, recipe.pixel_format, {})
    scores = np.array([score(scorer, picture) for picture in good])
    threshold = choose(scores, *recipe.policy)
    policy = Policy(threshold.policy, threshold.parameter, threshold.n, threshold.statement)
    return replace(normalised, threshold=threshold.value, policy=policy), scores, scores[:4]


def score(scorer: object, picture: Picture) -> float:
    scorer.enqueue(picture)  # type: ignore[attr-defined]
    return float(scorer.wait().score)  # type: ignore[attr-defined]


def network(*, dark_is_nan: bool = False) -> bytes:
    """ONNX bytes: (mean of RGB, R − B) per pixel, squared, averaged over cells of 4 × 4 px."""
    mix = np.array([[1 / 3, 1 / 3, 1 / 3], [1, 0, -1]], np.float32).reshape(2, 3, 1, 1)
    lift = np.array([1.9, 9.0], np.float32).reshape(1, 2, 1, 1)
    source = "lifted" if dark_is_nan else "mixed"
    nodes = [helper.make_node("Conv", ["image", "mix"], ["mixed"])]
    if dark_is_nan:  # √((x + 1.9)²·…) would hide it; √(x + 1.9) is NaN for black, x = −2
        nodes += [helper.make_node("Add", ["mixed", "lift"], ["sum"]), helper.make_node("Sqrt", ["sum"], ["lifted"])]
    nodes += [
        helper.make_node("Mul", [source, source], ["squared"]),
        helper.make_node("AveragePool", ["squared"], ["maps"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, [1, 2, MAPS, MAPS])],
        [numpy_helper.from_array(mix, "mix")] + ([numpy_helper.from_array(lift, "lift")] if dark_is_nan else []),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())
