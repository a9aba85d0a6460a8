import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from lad_edge.export.efficient_ad import (
    TwoPartConvolution,
    fold,
    fold_standardisation,
    negate,
    split_outputs,
    stack_inputs,
)
from lad_edge.export.to_onnx import OPSET, to_onnx
from torch import nn

from lad_edge.detectors.efficient_ad import EfficientAd

pytestmark = pytest.mark.torch
EXACT = {"atol": 2e-5, "rtol": 1e-5}  # the same sums in another order


@pytest.fixture(scope="module", params=[False, True], ids=["efficient_ad", "dfsc"])
def networks(request):
    torch.manual_seed(0)
    made = EfficientAd("xs", 256, instance_norm=request.param).eval().requires_grad_(False)
    made.mean.normal_()
    made.std.uniform_(0.5, 2)
    return made


@pytest.fixture
def layers():
    torch.manual_seed(1)
    return nn.Conv2d(3, 6, 3).requires_grad_(False), nn.Conv2d(3, 6, 3).requires_grad_(False), torch.randn(2, 3, 9, 9)


def test_standardisation_folds_into_the_convolution(layers):
    layer, _, x = layers
    mean, std = torch.randn(6, 1, 1), torch.rand(6, 1, 1) + 0.5
    torch.testing.assert_close(fold_standardisation(layer, mean, std)(x), (layer(x) - mean) / std, **EXACT)


def test_difference_of_two_convolutions_is_one_over_both_inputs(layers):
    a, b, x = layers
    y = x.flip(0)
    torch.testing.assert_close(stack_inputs(a, negate(b))(torch.cat([x, y], 1)), a(x) - b(y), **EXACT)


def test_a_convolution_splits_by_outputs(layers):
    a, _, x = layers
    first, second = split_outputs(a, 2)
    torch.testing.assert_close(torch.cat([first(x), second(x)], 1), a(x), **EXACT)


def test_weights_in_two_parts_are_exact_and_survive_rounding(layers):
    layer, _, x = layers
    two = TwoPartConvolution(layer).requires_grad_(False)
    torch.testing.assert_close(two(x), layer(x), **EXACT)
    flat = torch.ones(1, 3, 3, 3)  # the worst case: the errors of all weights of a channel add up
    exact = layer(flat)
    for convolution in (layer, two.layer):
        convolution.weight.copy_(convolution.weight.bfloat16())
    assert (two(flat) - exact).abs().max() < 0.02 * (layer(flat) - exact).abs().max()


def test_folded_network_gives_the_maps_of_the_unfolded_one(networks):
    image = torch.randn(2, 3, 256, 256)
    torch.testing.assert_close(fold(networks)(image), networks(image), atol=1e-6, rtol=1e-4)


def test_folding_leaves_the_networks_as_they_were(networks):
    before = {key: value.clone() for key, value in networks.state_dict().items()}
    fold(networks)
    assert all(torch.equal(value, before[key]) for key, value in networks.state_dict().items())


def test_exported_graph_gives_the_maps_of_torch(networks):
    image = torch.randn(1, 3, 256, 256)
    session = onnxruntime.InferenceSession(exported(networks), providers=["CPUExecutionProvider"])
    (maps,) = session.run(["maps"], {"image": image.numpy()})
    np.testing.assert_allclose(maps, networks(image).numpy(), atol=1e-6, rtol=1e-4)


def test_two_exports_are_the_same_bytes_and_name_no_machine(networks):
    first, second = exported(networks), exported(networks)
    assert first == second
    model = onnx.load_from_string(first)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b"/" + b"home" not in first
    assert b"site-packages" not in first


def exported(networks):
    return to_onnx(fold(networks), torch.zeros(1, 3, 256, 256), ["image"], ["maps"])
