"""What a graph costs: ONNX bytes go in, the numbers of its parameters and of its multiplications come out (methods card §8)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import onnx
from onnx import TensorProto, shape_inference

from lad_edge.bundle import Cost

Shapes = Mapping[str, tuple[int, ...]]
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_UNKNOWN = ("ConvInteger", "Einsum", "GRU", "LSTM", "MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN")


def cost(graph: bytes) -> Cost:
    """Constants of floating point, and multiply-accumulates (MAC) of all convolutions and matrix products.

    As in the card, products of two computed matrices (attention) count, and what works number by number (activations, norms, pooling,
    resizing) does not. Raises ValueError for operators that multiply and are not known here, and for shapes that are not fixed.
    """
    model = shape_inference.infer_shapes(onnx.load_from_string(graph), strict_mode=True, data_prop=True)
    shapes = _shapes(model.graph)
    parameters = sum(prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type in _FLOATS)
    return Cost(parameters=parameters, macs=sum(_macs(node, shapes) for node in model.graph.node))


def _shapes(graph: Any) -> Shapes:
    """Every tensor's shape by name, 0 where a side is not known."""
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        known[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return known


def _macs(node: Any, shapes: Shapes) -> int:
    """Each number of the output is a sum, and costs its length; a transposed convolution spreads each number of its input instead."""
    if node.op_type in _UNKNOWN:
        raise ValueError(
            f"{node.name}: the multiplications of {node.op_type} are not counted; extend lad_edge.export.cost"
        )
    if node.op_type not in _COUNTED:
        return 0
    first, second, out = (shapes.get(name, (0,)) for name in (*node.input[:2], node.output[0]))
    if 0 in (*first, *second, *out):
        raise ValueError(f"{node.name}: expected fixed shapes, found {first}, {second} → {out}; export static shapes")
    if node.op_type == "Conv":
        return prod(out) * prod(second[1:])
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(second[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(out) * first[-2 if transposed else -1]
