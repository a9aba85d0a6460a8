"""Rewrites of networks, each against the network that it stands for."""

import pytest
import torch
from lad_edge.export import fod, ulsad
from lad_edge.export.folding import as_convolution, fold_batch_norms
from torch import nn

from lad_edge.backbones.frozen import backbone
from lad_edge.detectors.fod import Fod, FodConfig, rebuilding_error
from lad_edge.detectors.ulsad import Ulsad, UlsadConfig

pytestmark = pytest.mark.torch


def with_lively_norms(network):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.1)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["efficientnet-lite0", "wide_resnet50_2"])
def test_batch_norms_of_a_backbone_go_into_its_convolutions(name):
    torch.manual_seed(0)
    network = with_lively_norms(backbone(name).structure())
    folded = fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    image = torch.randn(1, 3, 64, 64)
    for expected, found in zip(network(image), folded(image), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "padding"), [(5, 2), (3, 0), (4, 1)])
def test_a_deconvolution_of_stride_1_is_a_convolution(kernel, padding):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 4, kernel, 1, padding)
    x = torch.randn(2, 3, 9, 11)
    torch.testing.assert_close(as_convolution(layer)(x), layer(x), atol=1e-6, rtol=1e-5)


def test_a_deconvolution_with_a_stride_is_not():
    with pytest.raises(ValueError, match="expected stride 1"):
        as_convolution(nn.ConvTranspose2d(3, 4, 4, 2, 1))


@torch.no_grad()
@pytest.mark.parametrize("local_only", [False, True])
@pytest.mark.parametrize("decoder", ["stepped", "projected"])
def test_folded_ulsad_gives_what_the_unfolded_networks_give(local_only, decoder):
    torch.manual_seed(0)
    networks = with_lively_norms(Ulsad(UlsadConfig(local_only=local_only, consistency=not local_only, decoder=decoder)))
    networks.mean.normal_()
    networks.std.uniform_(0.5, 2)
    before = {key: value.clone() for key, value in networks.state_dict().items()}
    image = torch.randn(1, 3, 256, 256)
    described = networks.describe(image)
    reconstructed = networks.reconstruction(described)
    expected = [described, reconstructed[:, : networks.channels] if local_only else reconstructed]
    if not local_only:
        expected.append(networks.autoencoder(image))
    for found, wanted in zip(ulsad.fold(networks)(image), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in networks.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("i2_residual", [False, True])
def test_folded_fod_with_constant_reference_keys_gives_what_the_unfolded_networks_give(i2_residual):
    torch.manual_seed(0)
    networks = with_lively_norms(
        Fod(FodConfig(width_fine=32, width_coarse=64, heads=4, layers=2, i2_residual=i2_residual))
    )
    networks.reference_fine.normal_()
    networks.reference_coarse.normal_()
    image = torch.randn(1, 3, 256, 256)
    outputs = fod.fold(networks)(image)
    for level, (error, _) in enumerate(networks(image)):
        features, rebuilt, queries, sigmas = outputs[4 * level : 4 * level + 4]
        tokens, network = networks.tokens(image, level), networks.levels[level]
        torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens, atol=1e-4, rtol=1e-3)
        found = rebuilding_error(tokens, rebuilt.flatten(2).transpose(1, 2))
        torch.testing.assert_close(found, error, atol=1e-3, rtol=1e-3)
        first = network.layers[0].inter["query"](network.embed(tokens) + network.position)
        torch.testing.assert_close(queries[:1], first, atol=1e-4, rtol=1e-3)
        assert float(sigmas.min()) >= 1e-5
        assert float(sigmas.max()) <= 2.0001
