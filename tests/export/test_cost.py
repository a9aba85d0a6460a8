"""Parameters and multiplications: counted by hand, and those of the exported networks beside the method cards (§8)."""

import numpy as np
import pytest
from lad_edge.export.cost import cost
from lad_edge.export.export import EXPORTERS
from onnx import TensorProto, helper, numpy_helper

from lad_edge.bundle import Cost
from lad_edge.training.fit import METHODS, make_config

pytestmark = pytest.mark.torch


def graph(nodes, inputs, outputs, weights):
    infos = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
        for values in (inputs, outputs)
    ]
    constants = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    made = helper.make_graph(nodes, "counted", *infos, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("kind", "attributes", "source", "weight", "result", "macs"),
    [
        ("Conv", {"strides": [2, 2]}, [1, 3, 9, 9], [4, 3, 3, 3], [1, 4, 4, 4], 64 * 27),
        ("Conv", {"group": 6}, [1, 6, 5, 5], [6, 1, 3, 3], [1, 6, 3, 3], 54 * 9),
        ("ConvTranspose", {"strides": [2, 2]}, [1, 3, 4, 4], [3, 5, 2, 2], [1, 5, 8, 8], 48 * 20),
        ("MatMul", {}, [2, 8, 4, 6], [6, 7], [2, 8, 4, 7], 448 * 6),
        ("Gemm", {"transA": 1}, [6, 4], [6, 7], [4, 7], 28 * 6),
        ("Gemm", {"transB": 1}, [4, 6], [7, 6], [4, 7], 28 * 6),
        ("Add", {}, [4, 6], [4, 6], [4, 6], 0),
    ],
)
def test_each_operator_is_counted_as_by_hand(kind, attributes, source, weight, result, macs):
    node = helper.make_node(kind, ["x", "w"], ["y"], **attributes)
    assert cost(graph([node], {"x": source}, {"y": result}, {"w": weight})) == Cost(int(np.prod(weight)), macs)


def test_products_inside_the_graph_are_counted_with_the_shapes_that_follow():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("Softmax", ["hidden"], ["odds"]),
        helper.make_node("MatMul", ["odds", "x"], ["y"]),
    ]
    found = cost(graph(nodes, {"x": [1, 5, 3]}, {"y": [1, 5, 3]}, {"w": [3, 5]}))
    assert found == Cost(15, 5 * 5 * 3 + 5 * 3 * 5)


def test_what_cannot_be_counted_is_refused():
    einsum = helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik", name="e")
    with pytest.raises(ValueError, match="multiplications of Einsum are not counted"):
        cost(graph([einsum], {"x": [4, 6]}, {"y": [4, 7]}, {"w": [6, 7]}))
    product = helper.make_node("MatMul", ["x", "w"], ["y"], name="m")
    with pytest.raises(ValueError, match="m: expected fixed shapes"):
        cost(graph([product], {"x": ["n", 6]}, {"y": ["n", 7]}, {"w": [6, 7]}))


def in_two_parts(width, side):
    """What the second part of a PDN's first convolution adds, 10^9: 3 channels, 4×4 (export/efficient_ad.py)."""
    return 48 * width * side**2 / 1e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "settings", "parameters_m", "gmac"),
    [
        ("efficient_ad", {"size": "s"}, 8.06, {"detector": 15.31 + 20.24 + 2.39 + 2 * in_two_parts(128, 253)}),
        ("efficient_ad", {"size": "m"}, 20.74, {"detector": 52.03 + 63.28 + 2.39 + 2 * in_two_parts(256, 253)}),
        ("ulsad", {"backbone": "wide_resnet50_2"}, 91.4, {"detector": 12.00 + 12.68 + 0.77}),
        ("fod", {"backbone": "tf_efficientnet_b6"}, 24.1 - 1.97, {"detector": 2.63 + 6.12 + 3.31 - 0.85}),
        (
            "ladmim",
            {"test_masks": 8},
            24.8,
            {"encode": 11.46 + 2.55 + in_two_parts(128, 221), "decode": 3.83 - 0.30 - 0.11, "mim": 51.1},
        ),
    ],
)
def test_exported_networks_cost_what_the_cards_say(detector, settings, parameters_m, gmac):
    """The graphs hold what the networks hold, give or take constants: keys and values of FOD for the layers that make them,
    fixed positions and masks. FOD's dead projections (F-4, 1.97 M) are left out on both sides, its constant reference (0.85) too. What
    LADMIM's decoder makes of codes alone is looked up: keys and values (0.30), and the first layer's queries, keys, values (0.11).
    """
    config = make_config(detector, settings)
    networks = METHODS[detector].networks(config).eval()
    assert sum(p.numel() for p in networks.parameters()) / 1e6 == pytest.approx(parameters_m, abs=0.05)
    found = {
        role: cost(onnx) for role, (_, onnx) in EXPORTERS[detector].export(networks, config, "zero").graphs.items()
    }
    assert sum(one.parameters for one in found.values()) / 1e6 == pytest.approx(parameters_m, rel=0.06)
    assert {role: one.macs / 1e9 for role, one in found.items()} == pytest.approx(gmac, abs=0.04)
