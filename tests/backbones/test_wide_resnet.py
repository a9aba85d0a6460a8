import pytest
import torch
from safetensors.torch import save_file

from lad_edge.backbones.wide_resnet import WIDE_RESNETS, WideResNet, wide_resnet
from lad_edge.errors import DataError

pytestmark = pytest.mark.torch


def test_shapes_and_parameters_are_those_of_the_card():
    with torch.device("meta"):
        network = WideResNet(WIDE_RESNETS["wide_resnet50_2"])
        fine, coarse = network(torch.empty(1, 3, 256, 256))
    assert fine.shape == (1, 512, 32, 32)
    assert coarse.shape == (1, 1024, 16, 16)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 24.86


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_load_from_a_file_with_a_classifier_and_layer4(tmp_path, suffix):
    torch.manual_seed(0)
    state = WideResNet((1, 1, 1)).state_dict()
    path = tmp_path / f"weights{suffix}"
    stored = {**state, "fc.weight": torch.zeros(2, 2), "layer4.0.conv1.weight": torch.zeros(2, 2, 1, 1)}
    save_file(stored, path) if suffix == ".safetensors" else torch.save(stored, path)
    WIDE_RESNETS["tiny"] = (1, 1, 1)
    try:
        loaded = wide_resnet("tiny", path)
    finally:
        del WIDE_RESNETS["tiny"]
    torch.testing.assert_close(loaded.state_dict()["layer3.0.conv3.weight"], state["layer3.0.conv3.weight"])


def test_foreign_weights_are_refused_by_name(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=r"not the weights of wide_resnet50_2.*conv1"):
        wide_resnet("wide_resnet50_2", path)


class Foreign:
    """What a weight file of unknown origin may bring along."""


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"PK\x03\x04 no archive", "RuntimeError"), (b"", "EOFError"), (Foreign(), "UnpicklingError")],
)
def test_files_that_are_damaged_or_bring_code_are_refused(tmp_path, content, reason):
    path = tmp_path / "weights.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save({"conv1.weight": content}, path)
    with pytest.raises(DataError, match=rf"expected weights as .pth or .safetensors.*\({reason}\)"):
        wide_resnet("wide_resnet50_2", path)


def test_a_checkpoint_that_wraps_its_weights_is_refused(tmp_path):
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match="expected a dictionary of tensors"):
        wide_resnet("wide_resnet50_2", tmp_path / "weights.pth")
