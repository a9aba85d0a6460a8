"""A small, complete bundle with a real ONNX graph, for the tests of the bundle and of its users."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lad_edge.bundle import Calibration, Contract, Cost, Device, Golden, Graph, Manifest, Policy, TensorInfo
from lad_edge.bundle.layout import build_header

SIZE = (8, 8)  # of the network input


def small_onnx(channels: int = 2, **model: Any) -> bytes:
    """Image (1, 3, 8, 8) → map (1, channels, 8, 8): a convolution and a ReLU."""
    weights = np.random.default_rng(7).standard_normal((channels, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weights"], ["hidden"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["hidden"], ["map"]),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *SIZE])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, channels, *SIZE])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return serialised(graph, **model)


def serialised(graph: onnx.GraphProto, **model: Any) -> bytes:
    """The bytes of a model of opset 18."""
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, **model)
    return bytes(made.SerializeToString(deterministic=True))


def sample_tensors() -> dict[str, np.ndarray[Any, Any]]:
    """Graph, golden frames and scores, and one table of each other type."""
    random = np.random.default_rng(11)
    return {
        "graph/main": np.frombuffer(small_onnx(), np.uint8),
        "golden/frames": random.integers(0, 256, (2, 6, 10, 3), dtype=np.uint8),
        "golden/scores.f32": random.random(2),
        "scores.f32": np.sort(random.random(20)),
        "tables/half": random.random((3, 5)).astype(np.float16),
        "tables/single": random.random((2, 3, 4)).astype(np.float32),
        "tables/codes": random.integers(-9, 9, (4,), dtype=np.int32),
        "tables/counts": random.integers(-9, 9, (2, 2), dtype=np.int64),
    }


def sample_manifest(**changes: Any) -> Manifest:
    """The manifest of `sample_tensors`."""
    manifest = Manifest(
        name="sample",
        detector="efficient_ad",
        tool_version="0.1.0",
        parameters={"border": 4, "weights": [0.5, 0.5], "nested": {"text": "Größe ≤ 8"}},
        contract=Contract(
            10, 6, "bgr8", (1, 0, 8, 6), SIZE, "rgb", "bilinear-antialias", (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)
        ),
        graphs={
            "main": Graph(
                "graph/main", "onnx", {"image": (1, 3, *SIZE)}, {"map": (1, 2, *SIZE)}, cost=Cost(54, 54 * 8 * 8)
            )
        },
        calibrations={"f32": sample_calibration()},
        golden=Golden("golden/frames", {"f32": 1e-3}),
        provenance={"seed": 3},
        metrics={"image_auroc": 0.97},
    )
    return replace(manifest, **changes)


def sample_calibration(**changes: Any) -> Calibration:
    """What `sample_manifest` says of f32."""
    policy = Policy("conformal", 0.01, 20, "at most 1 % of good parts, n = 20")
    calibration = Calibration(
        "onnxruntime", {"structural": (0.1, 0.4)}, 0.75, policy, "scores.f32", (0.0, 2.0), "golden/scores.f32"
    )
    return replace(calibration, **changes)


ENGINE = b"vtrt" + bytes(range(60))  # the first bytes of an engine; the bundle looks no further


def plan_tensors() -> dict[str, np.ndarray[Any, Any]]:
    """As `sample_tensors`, with an engine and the ONNX beside it."""
    tensors = sample_tensors()
    return {**tensors, "graph/main": np.frombuffer(ENGINE, np.uint8), "onnx/main": tensors["graph/main"]}


def plan_manifest(**device: Any) -> Manifest:
    """The manifest of `plan_tensors`."""
    manifest = sample_manifest()
    main = replace(manifest.graphs["main"], format="tensorrt_rtx", source="onnx/main")
    found = Device("tensorrt_rtx", "1.7.1.116", ("8.6", "8.9"), "f32", None, None, None, "Linux x86_64", "0" * 64)
    return replace(manifest, kind="plan", graphs={"main": main}, device=replace(found, **device))


def with_manifest(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The same file with a changed manifest, hashed anew: what a program with other rules would write."""
    length = struct.unpack_from("<Q", data)[0]
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    manifest = json.loads(metadata["lad_edge"])
    change(manifest)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    metadata |= {"lad_edge": text, "lad_edge_sha256": hashlib.sha256(text.encode()).hexdigest()}
    infos = {name: TensorInfo(**info) for name, info in manifest["tensors"].items()}
    return build_header(metadata, infos) + data[8 + length :]
