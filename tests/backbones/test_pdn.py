import pytest
import torch

from lad_edge.backbones.pdn import PDN_SIZES, Pdn, description_side

pytestmark = pytest.mark.torch


def parameters_m(module: torch.nn.Module) -> float:
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 3)


@pytest.mark.parametrize(("size", "teacher_m", "student_m"), [("s", 2.694, 4.267), ("m", 8.027, 11.615)])
def test_parameter_counts_are_those_of_the_card(size, teacher_m, student_m):
    assert parameters_m(Pdn(PDN_SIZES[size])) == teacher_m
    assert parameters_m(Pdn(PDN_SIZES[size], 768)) == student_m


@pytest.mark.parametrize("side", [128, 224, 256, 512])
@pytest.mark.parametrize("size", ["xs", "s", "m"])
def test_description_has_the_stated_side(size, side):
    with torch.device("meta"):
        described = Pdn(PDN_SIZES[size])(torch.empty(1, 3, side, side))
    assert described.shape == (1, PDN_SIZES[size].out_channels, description_side(side), description_side(side))


def test_card_examples_of_the_description_side():
    assert [description_side(side) for side in (256, 224, 512)] == [56, 48, 120]


@pytest.mark.parametrize("size", ["xs", "s", "m"])
def test_padded_teacher_describes_every_fourth_pixel(size):
    with torch.device("meta"):
        described = Pdn(PDN_SIZES[size], padded=True)(torch.empty(1, 3, 256, 256))
    assert described.shape[2:] == (64, 64)


def test_padding_does_not_change_the_inner_description():
    torch.manual_seed(0)
    padded = Pdn(PDN_SIZES["xs"], padded=True).eval()
    plain = Pdn(PDN_SIZES["xs"]).eval()
    plain.load_state_dict(padded.state_dict())
    image = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        inner, whole = plain(image), padded(image)
    torch.testing.assert_close(whole[:, :, 4:60, 4:60], inner, atol=1e-5, rtol=1e-5)
