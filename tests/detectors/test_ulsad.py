from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from lad_edge.detectors.batches import Images
from lad_edge.detectors.ulsad import (
    FeatureReconstruction,
    GlobalAutoencoder,
    Ulsad,
    UlsadConfig,
    UlsadTask,
    attend,
    distance,
    group_mean,
)
from lad_edge.errors import UsageError

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tiny_backbone")]
SMALL = UlsadConfig(backbone="tiny", batch=2, steps=3, decoder="projected")


def some_images(count=4):
    generator = torch.Generator().manual_seed(5)
    return Images(torch.rand(count, 3, 256, 256, generator=generator), 7, torch.device("cpu"))


def prepared(config):
    torch.manual_seed(0)
    networks, images = Ulsad(config), some_images()
    networks.prepare(images)
    return networks, images


def test_shapes_and_sizes_are_those_of_the_card():
    with torch.device("meta"):
        networks = Ulsad(UlsadConfig(backbone="wide_resnet50_2"))
        described = networks.describe(torch.empty(2, 3, 256, 256))
        reconstructed = networks.reconstruction(described)
        predicted = networks.autoencoder(torch.empty(2, 3, 256, 256))
    assert networks.group == 4
    assert described.shape == predicted.shape == (2, 384, 32, 32)
    assert reconstructed.shape == (2, 768, 32, 32)
    millions = [
        round(sum(p.numel() for p in part.parameters()) / 1e6, 2)
        for part in (networks.reconstruction, networks.autoencoder)
    ]
    assert millions == [65.49, 1.03]


@pytest.mark.parametrize("side", [256, 320, 512])
@pytest.mark.parametrize("projected", [False, True])
def test_the_autoencoder_predicts_the_grid_of_the_features(side, projected):
    with torch.device("meta"):
        assert GlobalAutoencoder(24, side, projected)(torch.empty(2, 3, side, side)).shape == (
            2,
            24,
            side // 8,
            side // 8,
        )


def test_the_mean_of_channel_groups_is_adaptive_pooling_and_commutes_with_enlarging():
    x = torch.randn(2, 16, 5, 5)
    pooled = functional.adaptive_avg_pool1d(x.flatten(2).transpose(1, 2), 4).transpose(1, 2).unflatten(2, (5, 5))
    torch.testing.assert_close(group_mean(x, 4), pooled)

    def enlarge(y):
        return functional.interpolate(y, size=(10, 10), mode="bilinear", align_corners=False)

    torch.testing.assert_close(group_mean(enlarge(x), 4), enlarge(group_mean(x, 4)), atol=1e-6, rtol=1e-5)


def test_described_features_have_zero_mean_and_unit_variance_over_the_training_images():
    networks, images = prepared(SMALL)
    described = torch.cat([networks.describe(image) for image in images.each()])
    torch.testing.assert_close(described.mean((0, 2, 3)), torch.zeros(24), atol=1e-5, rtol=0)
    torch.testing.assert_close(described.var((0, 2, 3), correction=0), torch.ones(24), atol=1e-4, rtol=0)


def test_distance_adds_the_cosine_distance():
    a, b = torch.randn(2, 6, 3, 3), torch.randn(2, 6, 3, 3)
    expected = (a - b).square().mean(1) + 0.5 * (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)))
    torch.testing.assert_close(distance(a, b, 0.5), expected)
    assert float(distance(a, 2 * a, 0.0).min()) > 0
    torch.testing.assert_close(distance(a, 2 * a, 1.0), a.square().mean(1))


def test_attention_mixes_the_values_by_softmax_over_their_positions():
    queries, values = torch.randn(1, 4, 2, 3), torch.randn(1, 4, 2, 3)
    mixed = attend(queries, values)
    q, v = queries[0].flatten(1), values[0].flatten(1)
    weights = torch.softmax(v.T @ q / 2, dim=0)  # over keys, one column for each query
    torch.testing.assert_close(mixed[0].flatten(1), v @ weights)


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({}, {"local", "global", "consistency"}),
        ({"global_loss": "distance"}, {"local", "global", "consistency"}),
        ({"global_loss": "none"}, {"local", "consistency"}),
        ({"consistency": False}, {"local", "global"}),
        ({"local_only": True, "consistency": False}, {"local"}),
    ],
)
def test_each_ablation_trains_what_it_says(changes, terms):
    config = replace(SMALL, **changes)
    config.check()
    networks, images = prepared(config)
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    task = UlsadTask(networks, images, config)
    losses = task.losses(0)
    assert losses.keys() == terms
    torch.stack(list(losses.values())).sum().backward()
    task.optimiser.step()
    changed = {
        name.split(".")[0] for name, value in networks.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"reconstruction"} | (set() if config.local_only else {"autoencoder"})
    assert networks.eval()(images.one(0)).shape == (1, 1 if config.local_only else 2, 32, 32)


def test_the_consistency_loss_moves_both_networks():
    config = replace(SMALL, global_loss="none", local_weight=0.0)
    networks, images = prepared(config)
    UlsadTask(networks, images, config).losses(0)["consistency"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in networks.autoencoder.decoder.head.parameters())
    assert networks.reconstruction.layers[-3].weight.grad.abs().sum() > 0


@torch.no_grad()
def test_the_bottleneck_of_the_reconstruction_is_signed_and_its_output_as_asked():
    torch.manual_seed(0)
    described = torch.randn(2, 8, 32, 32)
    relu, identity = FeatureReconstruction(8, "relu"), FeatureReconstruction(8, "identity")
    assert float(relu(described).min()) == 0
    assert float(identity(described).min()) < 0
    assert float(relu.layers[:8](described).min()) < 0


def test_an_autoencoder_that_nothing_trains_is_refused():
    with pytest.raises(UsageError, match="train no autoencoder"):
        UlsadConfig(consistency=False, global_loss="none").check()
