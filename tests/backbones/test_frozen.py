import pytest
import torch

from lad_edge.backbones.efficientnet_lite import LITES, efficientnet_lite
from lad_edge.backbones.frozen import BACKBONES, backbone
from lad_edge.errors import UsageError

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_maps_have_the_stated_channels_at_strides_8_and_16(name):
    kind = backbone(name)
    with torch.device("meta"):
        fine, coarse = kind.structure()(torch.empty(1, 3, 256, 256))
    assert fine.shape == (1, kind.channels[0], 32, 32)
    assert coarse.shape == (1, kind.channels[1], 16, 16)


@pytest.mark.parametrize("name", sorted(LITES))
def test_the_trunk_of_a_lite_network_equals_the_whole_network(name):
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = efficientnet_lite(name)(image), backbone(name).pretrained(None)(image)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_unknown_names_and_files_that_are_not_wanted_are_refused(tmp_path):
    with pytest.raises(UsageError, match="expected one of efficientnet-lite0"):
        backbone("resnet9000")
    with pytest.raises(UsageError, match="brings its weights by pip"):
        backbone("efficientnet-lite0").pretrained(tmp_path / "w.pth")
