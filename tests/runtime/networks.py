"""Small real ONNX graphs for the runtime tests, each with its meaning in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lad_edge.bundle import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto


def conv_relu(height: int = 9, width: int = 13, channels: int = 8) -> tuple[Graph, bytes]:
    """Image (1, 3, h, w) → map (1, channels, h - 2, w - 2)."""
    weights, bias = conv_weights(channels)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weights", "bias"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["map"]),
        ],
        "conv_relu",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, channels, height - 2, width - 2])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    stated = Graph(
        "graph/conv", "onnx", {"image": (1, 3, height, width)}, {"map": (1, channels, height - 2, width - 2)}
    )
    return stated, _bytes(graph)


def conv_weights(channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(3)
    weights = random.standard_normal((channels, 3, 3, 3)).astype(np.float32)
    return weights, random.standard_normal(channels).astype(np.float32)


def conv_relu_by_numpy(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """The meaning of `conv_relu`, in float64."""
    weights, bias = (array.astype(np.float64) for array in conv_weights(8))
    windows = np.lib.stride_tricks.sliding_window_view(image[0].astype(np.float64), (3, 3), axis=(1, 2))
    return np.maximum(np.einsum("chwij,ocij->ohw", windows, weights) + bias[:, None, None], 0)[None]


def two_in_two_out(size: int = 33) -> tuple[Graph, bytes]:
    """Takes a, b of (1, size) and gives sum = a + b and product = a · b."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])],
        "two",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("a", "b")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("sum", "product")],
    )
    shape = (1, size)
    return Graph("graph/two", "onnx", {"a": shape, "b": shape}, {"sum": shape, "product": shape}), _bytes(graph)


def unknown_operator() -> tuple[Graph, bytes]:
    """A well-formed graph with an operator that no engine has."""
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["a"], ["b"])],
        "unknown",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])],
    )
    return Graph("graph/unknown", "onnx", {"a": (1,)}, {"b": (1,)}), _bytes(graph)


def _bytes(graph: GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString(deterministic=True))
