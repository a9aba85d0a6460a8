"""A network in float32 → the same network in float16 with islands of float32, both as ONNX bytes; needs onnx, not torch.

TensorRT builds strongly typed networks: the precision stands in the graph, not in a flag (methods card §10.2). Inputs and outputs
stay float32, so that runtimes and scorers see no difference.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from lad_edge.errors import EngineError

# Sums over many values, divisions by spreads, and what is compared afterwards: 11 bits and a largest number of 65504 do not carry them.
ISLANDS = frozenset(
    {
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "BatchNormalization",
        "MeanVarianceNormalization",
    }
    | {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "CumSum"}
    | {"Softmax", "LogSoftmax", "Exp", "Log", "Reciprocal", "ArgMax", "ArgMin", "TopK"}
    | {"Cast", "Constant", "ConstantOfShape", "Range"}  # whose results have the type that they state
)
# What costs nothing to keep in float32 beside an island: (t − s)² before its mean, LayerScale and residual sums before a LayerNorm.
FOLLOWERS = frozenset(
    {"Abs", "Add", "Clip", "Div", "Max", "Min", "Mul", "Neg", "Pow", "Relu", "Sigmoid", "Sqrt", "Sub", "Where"}
    | {
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_ALWAYS_FLOAT32 = {
    ("Resize", 1),
    ("Resize", 2),
}  # region and scales are float32 in ONNX, whatever the type of the picture
_HALF_LARGEST = float(np.finfo(np.float16).max)
_SUFFIX = {TensorProto.FLOAT: "_f32", TensorProto.FLOAT16: "_f16"}


def to_half(data: bytes) -> bytes:
    """Return the ONNX bytes of a network whose islands compute in float32 and everything else in float16.

    data: ONNX of opset 13 or later with float32 inputs and outputs of fixed shape. The same bytes give the same bytes.
    Raises EngineError for what onnx cannot read or type.
    """
    try:
        model = shape_inference.infer_shapes(onnx.load_from_string(data), strict_mode=True)
    except Exception as exc:  # protobuf, checker and inference errors share no base
        raise EngineError(f"the network cannot be converted to f16: {' '.join(str(exc).split())[:300]}") from exc
    _Rewrite(model.graph).run()
    return bytes(model.SerializeToString(deterministic=True))


class _Rewrite:
    """One pass over the nodes in their order: each input is brought to the type of its node."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.taken = {name for node in graph.node for name in (*node.input, *node.output)}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.widen_stored_halves()
        self.floats = set(_float_values(graph)) | {
            name for name, array in self.constants.items() if array.dtype == np.float32
        }
        known = (*self.constants, *(value.name for value in graph.input))
        self.types = dict.fromkeys(known, TensorProto.FLOAT)  # of what was written so far, where it is a float
        self.copies: dict[tuple[str, int], str] = {}  # name and other type → its name there
        self.islands = _islands(graph, self.constants)
        self.nodes: list[onnx.NodeProto] = []
        self.used: dict[str, NDArray[np.generic]] = {}

    def widen_stored_halves(self) -> None:
        """A constant of float16 behind a Cast is a small way to store float32: take it as that."""
        for node in list(self.graph.node):
            stored = self.constants.get(node.input[0]) if node.op_type == "Cast" else None
            if stored is not None and stored.dtype == np.float16 and node.attribute[0].i == TensorProto.FLOAT:
                self.constants[node.output[0]] = stored.astype(np.float32)
                self.graph.node.remove(node)

    def fresh(self, name: str, kind: int) -> str:
        """Return a name for `name` in another type that nothing in the graph has."""
        found = name + _SUFFIX[kind]
        while found in self.taken:
            found += "_"
        self.taken.add(found)
        return found

    def run(self) -> None:
        """Rewrite the graph in place."""
        results = {value.name for value in self.graph.output}
        for index, node in enumerate(list(self.graph.node)):
            self.node(node, TensorProto.FLOAT if index in self.islands else TensorProto.FLOAT16, results)
        for name in ("node", "initializer", "value_info"):
            self.graph.ClearField(name)
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(numpy_helper.from_array(self.used[name], name) for name in sorted(self.used))

    def node(self, node: onnx.NodeProto, kind: int, results: set[str]) -> None:
        """Append a node that computes in `kind`; a result of the graph is cast back to float32."""
        for position, name in enumerate(node.input):
            fixed = (node.op_type, position) in _ALWAYS_FLOAT32
            node.input[position] = self.as_type(name, TensorProto.FLOAT if fixed else kind)
        self.nodes.append(node)
        for position, name in enumerate(node.output):
            if name not in self.floats:
                continue
            self.types[name] = kind
            if name in results and kind == TensorProto.FLOAT16:
                self.copies[name, kind] = node.output[position] = self.fresh(name, kind)
                self.nodes.append(_cast(node.output[position], name, TensorProto.FLOAT))
                self.types[name] = TensorProto.FLOAT

    def as_type(self, name: str, kind: int) -> str:
        """Return the name under which `name` is there in `kind`; constants are converted, results of nodes are cast once."""
        if name not in self.floats or self.types.get(name) == kind:
            if name in self.constants:
                self.used[name] = self.constants[name]
            return name
        if (name, kind) not in self.copies:
            self.copies[name, kind] = self.fresh(name, kind)
            if name in self.constants:
                self.used[self.copies[name, kind]] = self.constants[name].astype(np.float16)
            else:
                self.nodes.append(_cast(name, self.copies[name, kind], kind))
        return self.copies[name, kind]


def _float_values(graph: onnx.GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            yield value.name


def _islands(graph: onnx.GraphProto, constants: dict[str, NDArray[np.generic]]) -> set[int]:
    """Positions of the nodes that compute in float32: islands, what holds constants that float16 cannot, and their followers."""
    consumers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.input:
            consumers.setdefault(name, []).append(index)
    attended = {name for name, users in consumers.items() if all(graph.node[i].op_type == "MatMul" for i in users)}
    islands: set[int] = set()
    for index, node in reversed(list(enumerate(graph.node))):
        follows = node.op_type in FOLLOWERS and all(
            user in islands for name in node.output for user in consumers.get(name, ())
        )
        attention = (
            node.op_type == "Softmax" and set(node.output) <= attended
        )  # a softmax in [0, 1] between two products
        if (
            follows
            or (node.op_type in ISLANDS and not attention)
            or any(_too_fine(constants.get(x)) for x in node.input)
        ):
            islands.add(index)
    return islands


def _too_fine(array: NDArray[np.generic] | None) -> bool:
    """Whether float16 would lose a constant: a value beyond its range, or a single number that it rounds by over 1 ‰."""
    if array is None or array.dtype != np.float32:
        return False
    finite = array[np.isfinite(array)].astype(np.float64)
    if np.abs(finite).max(initial=0.0) > _HALF_LARGEST:
        return True
    return array.size == 1 and bool((np.abs(finite.astype(np.float16) - finite) > 1e-3 * np.abs(finite)).any())


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"Cast_{target}", to=kind)
