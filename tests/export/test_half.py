"""float16 with islands of float32: near the full network, the same at its borders, and exact where it has to be."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from lad_edge.export.half import to_half
from onnx import TensorProto, helper, numpy_helper

from lad_edge.bundle.onnx_guard import inspect_onnx
from lad_edge.errors import EngineError

SHAPE = (1, 8, 12, 12)
HALF = 2e-3  # of the largest value: a handful of roundings to 11 bits


def network(*steps: Any, constants: dict[str, Any] | None = None, results: tuple[str, ...] = ("y",)) -> bytes:
    """ONNX bytes of (operator, inputs, output, attributes) from "x" (1, 8, 12, 12) to results of the same or any shape."""
    nodes = [helper.make_node(kind, list(inputs), [output], **how) for kind, inputs, output, how in steps]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results]
    graph = helper.make_graph(nodes, "steps", [given], made, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(onnx.shape_inference.infer_shapes(model, strict_mode=True).SerializeToString())


def answers(data: bytes, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def picture(scale: float = 1.0) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(0).standard_normal(SHAPE) * scale).astype(np.float32)


def kinds(data: bytes) -> dict[str, str]:
    """Name of each value → its type, as onnx infers it from the rewritten graph."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data), strict_mode=True)
    names = {TensorProto.FLOAT: "f32", TensorProto.FLOAT16: "f16"}
    return {value.name: names.get(value.type.tensor_type.elem_type, "other") for value in model.graph.value_info}


WEIGHTS = np.random.default_rng(1).standard_normal((8, 8, 3, 3)).astype(np.float32) / 8
CONV = ("Conv", ("x", "w"), "hidden", {"pads": [1, 1, 1, 1]})
SQUARES = (
    CONV,
    ("Sub", ("hidden", "x"), "difference", {}),
    ("Mul", ("difference", "difference"), "square", {}),
    ("ReduceMean", ("square", "axis"), "y", {"keepdims": 0}),
)
AXIS = {"axis": np.array([1])}


def test_a_convolution_is_computed_in_half_and_comes_out_in_full() -> None:
    full = network(CONV, ("Relu", ("hidden",), "y", {}), constants={"w": WEIGHTS})
    half = to_half(full)
    assert inspect_onnx(half).difference({"x": SHAPE}, {"y": SHAPE}) is None
    assert [tensor.data_type for tensor in onnx.load_from_string(half).graph.initializer] == [TensorProto.FLOAT16]
    assert kinds(half)["hidden"] == "f16"
    (expected,), (found,) = answers(full, picture()), answers(half, picture())
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 1e-6 < error < HALF  # above 0: it was rounded


def test_the_mean_of_squares_stays_in_full_with_what_leads_to_it() -> None:
    full = network(*SQUARES, constants={"w": WEIGHTS, **AXIS})
    half = to_half(full)
    assert {name: kinds(half)[name] for name in ("hidden", "difference", "square")} == {
        "hidden": "f16",
        "difference": "f32",
        "square": "f32",
    }
    large = picture(3000.0)  # squares of 10^7 leave the range of float16
    (expected,), (found,) = answers(full, large), answers(half, large)
    np.testing.assert_allclose(found, expected, rtol=HALF)


def test_a_value_that_is_used_in_both_types_is_cast_once() -> None:
    full = network(
        CONV,
        ("Conv", ("hidden", "w"), "second", {"pads": [1, 1, 1, 1]}),
        ("ReduceMean", ("hidden", "axis"), "mean", {}),
        ("ReduceMax", ("second", "axis"), "top", {}),
        ("ReduceMean", ("hidden", "axis"), "again", {}),
        ("Add", ("mean", "again"), "sum", {}),
        ("Sub", ("sum", "top"), "y", {}),
        constants={"w": WEIGHTS, **AXIS},
    )
    model = onnx.load_from_string(to_half(full))
    assert Counter(node.input[0] for node in model.graph.node if node.op_type == "Cast") == {
        "x": 1,
        "hidden": 1,
        "top": 1,
    }


def test_a_result_that_other_nodes_read_keeps_its_name_and_type() -> None:
    full = network(CONV, ("Conv", ("hidden", "w"), "y", {}), constants={"w": WEIGHTS}, results=("hidden", "y"))
    half = to_half(full)
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    assert set(inspect_onnx(half).outputs) == {"hidden", "y"}
    for expected, found in zip(answers(full, picture()), answers(half, picture()), strict=True):
        assert np.abs(found - expected).max() < HALF * np.abs(expected).max()


@pytest.mark.parametrize(("constant", "kind"), [(0.5, "f16"), (1e-9, "f32"), (1e6, "f32"), (-np.inf, "f16")])
def test_a_constant_that_float16_cannot_hold_makes_an_island(constant: float, kind: str) -> None:
    full = network(
        ("Max", ("x", "c"), "bounded", {}),
        ("Conv", ("bounded", "w"), "y", {}),
        constants={"w": WEIGHTS, "c": np.float32(constant)},
    )
    assert kinds(to_half(full))["bounded"] == kind


def test_attention_is_half_and_a_softmax_that_is_read_is_not() -> None:
    attention = (
        ("MatMul", ("x", "x"), "logits", {}),
        ("Softmax", ("logits",), "weights", {}),
        ("MatMul", ("weights", "x"), "y", {}),
    )
    assert kinds(to_half(network(*attention)))["weights"] == "f16"
    read = kinds(to_half(network(*attention[:2], ("Neg", ("weights",), "y", {}))))
    assert (read["logits"], read["weights"]) == ("f16", "f32")


def test_scales_of_a_resize_stay_in_full() -> None:
    resize = ("Resize", ("x", "", "scales"), "large", {"mode": "linear"})
    scales = np.array([1, 1, 2, 2], np.float32)
    full = network(resize, ("Conv", ("large", "w"), "y", {}), constants={"w": WEIGHTS, "scales": scales})
    half = to_half(full)
    assert kinds(half)["large"] == "f16"
    (expected,), (found,) = answers(full, picture()), answers(half, picture())
    assert np.abs(found - expected).max() < HALF * np.abs(expected).max()


def test_weights_that_are_stored_in_half_are_weights_like_others() -> None:
    stored = network(
        ("Cast", ("w_f16",), "w", {"to": TensorProto.FLOAT}),
        CONV,
        ("Relu", ("hidden",), "y", {}),
        constants={"w_f16": WEIGHTS.astype(np.float16)},
    )
    half = to_half(stored)
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    assert Counter(node.op_type for node in onnx.load_from_string(half).graph.node)["Cast"] == 2  # of x and of y
    (expected,), (found,) = answers(stored, picture()), answers(half, picture())
    assert np.abs(found - expected).max() < HALF * np.abs(expected).max()


def test_a_constant_of_a_node_keeps_the_type_that_it_states() -> None:
    shift = numpy_helper.from_array(np.full(SHAPE, 0.5, np.float32))
    full = network(
        ("Constant", (), "shift", {"value": shift}),
        ("Add", ("x", "shift"), "sum", {}),
        ("Conv", ("sum", "w"), "y", {}),
        constants={"w": WEIGHTS},
    )
    half = to_half(full)
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    (expected,), (found,) = answers(full, picture()), answers(half, picture())
    assert np.abs(found - expected).max() < HALF * np.abs(expected).max()


def test_the_same_bytes_give_the_same_bytes() -> None:
    full = network(*SQUARES, constants={"w": WEIGHTS, **AXIS})
    assert to_half(full) == to_half(full)


def test_what_is_no_onnx_is_refused() -> None:
    with pytest.raises(EngineError, match="cannot be converted to f16"):
        to_half(b"\x08\x08garbage")
