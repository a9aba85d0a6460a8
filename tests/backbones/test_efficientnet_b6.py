import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from lad_edge.backbones.efficientnet_b6 import EfficientNetB6, InvertedBlock, efficientnet_b6
from lad_edge.errors import DataError

pytestmark = pytest.mark.torch


def test_shapes_parameters_and_multiplications_are_those_of_the_card():
    macs = 0

    def count(layer, _inputs, output):
        nonlocal macs
        macs += layer.weight[0].numel() * output.numel()

    with torch.device("meta"):
        network = EfficientNetB6().eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        fine, coarse = network(torch.empty(1, 3, 256, 256))
    assert fine.shape == (1, 72, 32, 32)
    assert coarse.shape == (1, 200, 16, 16)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 7.88
    assert macs / 1e9 == pytest.approx(2.63, abs=0.01)


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "before", "after"), [(3, 0, 1), (5, 1, 2)])
def test_a_stride_of_2_pads_as_tensorflow_does(kernel, before, after):
    block = InvertedBlock(kernel, 2, 8, 8)
    x = torch.randn(1, 48, 16, 16)
    padded = functional.pad(x, (before, after, before, after))
    expected = functional.conv2d(padded, block.conv_dw.weight, stride=2, groups=48)
    torch.testing.assert_close(block.conv_dw(x), expected)


def test_weights_load_from_a_file_with_what_lies_behind_stride_16(tmp_path):
    torch.manual_seed(0)
    state = EfficientNetB6().state_dict()
    behind = {
        "blocks.5.0.conv_pw.weight": torch.zeros(1),
        "classifier.bias": torch.zeros(1),
        "bn2.weight": torch.zeros(1),
    }
    save_file({**state, **behind}, tmp_path / "b6.safetensors")
    loaded = efficientnet_b6(tmp_path / "b6.safetensors").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in state.items())
    with pytest.raises(DataError, match="expected the weights of tf_efficientnet_b6, found nothing"):
        efficientnet_b6(tmp_path / "absent.pth")
