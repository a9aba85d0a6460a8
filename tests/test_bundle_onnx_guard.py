"""The walk over ONNX bytes: real graphs pass, unwanted features and damage are refused without harm."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_samples import serialised, small_onnx
from onnx import TensorProto, helper, numpy_helper

from lad_edge.bundle.onnx_guard import MAX_NODES, OnnxRefusedError, inspect_onnx


def info(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def graph_of(nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto] | None = None) -> onnx.GraphProto:
    return helper.make_graph(nodes, "g", [info("x", [1, 4])], [info("y", [1, 4])], initializers or [])


RELU = helper.make_node("Relu", ["x"], ["y"])


def test_inputs_outputs_and_nodes_are_found() -> None:
    summary = inspect_onnx(small_onnx())
    assert summary.inputs == {"image": (1, 3, 8, 8)}
    assert summary.outputs == {"map": (1, 2, 8, 8)}
    assert summary.nodes == 2
    assert summary.difference({"image": (1, 3, 8, 8)}, {"map": (1, 2, 8, 8)}) is None
    assert "outputs should be" in str(summary.difference({"image": (1, 3, 8, 8)}, {"maps": (1, 2, 8, 8)}))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_])
def test_weights_of_every_plain_type_pass(dtype: type[np.generic]) -> None:
    raw = numpy_helper.from_array(np.ones((3, 5), dtype), "w")
    typed = helper.make_tensor("v", raw.data_type, [2, 2], np.ones(4, dtype).tolist())
    assert inspect_onnx(serialised(graph_of([RELU], [raw, typed]))).nodes == 1


def external() -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return serialised(graph_of([RELU], [tensor]))


def sized(dims: list[int], raw: bytes) -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=raw)
    return serialised(graph_of([RELU], [tensor]))


def claimed(dims: list[int]) -> bytes:
    return serialised(graph_of([RELU], [TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, float_data=[1])]))


def in_attribute(dims: list[int]) -> bytes:
    value = TensorProto(data_type=TensorProto.FLOAT, dims=dims, raw_data=b"\0\0\0\0")
    return serialised(graph_of([helper.make_node("Constant", [], ["y"], value=value)]))


def branching() -> bytes:
    body = helper.make_graph([RELU], "body", [], [info("y", [1, 4])])
    return serialised(graph_of([helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)]))


def with_function() -> bytes:
    made = onnx.ModelProto.FromString(small_onnx())
    made.functions.add(name="f", domain="local")
    return made.SerializeToString()


def with_domain() -> bytes:
    made = onnx.ModelProto.FromString(small_onnx())
    made.opset_import.add(domain="com.microsoft", version=1)
    return made.SerializeToString()


def two_graphs() -> bytes:
    return small_onnx() + small_onnx()


REFUSED = {
    "external data": (external(), "weights in another file"),
    "fewer bytes than dims": (sized([3, 5], bytes(56)), "says 60 bytes and holds 56"),
    "2^62 values": (sized([2**31, 2**31], b""), "a size that is not accepted"),
    "negative side": (sized([-1], b""), "a size that is not accepted"),
    "overflow to zero": (sized([2**32, 2**32], b""), "a size that is not accepted"),
    "claimed values": (claimed([1000]), "says 1000 values"),
    "constant bomb": (in_attribute([2**30]), "says 4294967296 bytes and holds 4"),
    "text": (serialised(graph_of([RELU], [helper.make_tensor("w", TensorProto.STRING, [1], [b"x"])])), "element type"),
    "sub-graph": (branching(), "sub-graph"),
    "function": (with_function(), "local functions"),
    "custom domain": (with_domain(), "domain 'com.microsoft'"),
    "custom node": (serialised(graph_of([helper.make_node("F", ["x"], ["y"], domain="me")])), "domain 'me'"),
    "too many nodes": (serialised(graph_of([RELU] * (MAX_NODES + 1))), "more than 5000 nodes"),
    "dynamic": (serialised(helper.make_graph([RELU], "g", [info("x", ["n", 4])], [info("y", [1, 4])])), "fixed shape"),
    "no shape": (
        serialised(helper.make_graph([RELU], "g", [helper.make_empty_tensor_value_info("x")], [info("y", [1])])),
        "fixed shape",
    ),
    "double input": (
        serialised(helper.make_graph([RELU], "g", [info("x", [1], TensorProto.DOUBLE)], [info("y", [1])])),
        "float32 of fixed shape",
    ),
    "no nodes": (serialised(graph_of([])), "at least one of them is missing"),
    "two graphs": (two_graphs(), "one graph, found 2"),
    "empty": (b"", "one graph, found 0"),
    "text file": (b"hello, world", "."),
    "group": (b"\x0b\x0c", "wire type 3"),
    "endless number": (b"\x08" + b"\xff" * 20, "more than 10 bytes"),
    "length beyond the end": (b"\x3a\xff\xff\xff\xff\x0f", "cut short"),
    "number where a graph belongs": (b"\x38\x01", "'graph' is a number"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_unwanted_graphs_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(OnnxRefusedError, match=message):
        inspect_onnx(data)


def test_sparse_weights_are_refused() -> None:
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    graph = graph_of([RELU])
    graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, helper.make_tensor("i", TensorProto.INT64, [1], [0]), [9])
    )
    with pytest.raises(OnnxRefusedError, match="sparse"):
        inspect_onnx(serialised(graph))


def test_damage_is_refused_or_harmless() -> None:
    """20 000 mutants: no other exception, and never more memory than the file."""
    data, rng = small_onnx(), random.Random(5)
    tracemalloc.start()
    refused = 0
    for _ in range(20_000):
        at, length = rng.randrange(len(data)), rng.randint(1, 4)
        refused += not is_accepted(data[:at] + rng.randbytes(length) + data[at + rng.randrange(6) :])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 5_000  # weights may change unseen here: the hash guards them
    assert peak < 1 << 20


def is_accepted(data: bytes) -> bool:
    try:
        inspect_onnx(data)
    except OnnxRefusedError:
        return False
    return True
