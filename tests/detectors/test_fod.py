import math

import pytest
import torch
from torch.nn import functional

from lad_edge.detectors.batches import Images
from lad_edge.detectors.fod import (
    Correlation,
    Fod,
    FodConfig,
    FodTask,
    Layer,
    entropy,
    modulated,
    objective,
    rebuilding_error,
    sine_position,
    symmetric_kl,
    target_factors,
    width_of,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tiny_backbone")]
SMALL = FodConfig(backbone="tiny", width_fine=32, width_coarse=64, heads=4, layers=2, steps=3)


@pytest.fixture
def prepared():
    torch.manual_seed(0)
    stack = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(5))
    networks, images = Fod(SMALL), Images(stack, 7, torch.device("cpu"))
    networks.prepare(images)
    return networks, images


def test_learnable_parameters_are_those_of_the_card_without_the_dead_projections():
    with torch.device("meta"):
        networks = Fod(FodConfig(backbone="wide_resnet50_2"))
    trained = sum(p.numel() for p in networks.levels.parameters())
    dead = 3 * 2 * sum(d * d + d for d in (256, 512))  # the output projections of both branches (F-4)
    assert round((trained + dead) / 1e6, 1) == 17.8


def test_target_rows_are_the_normalised_gaussian_around_the_tokens_own_place():
    side, generator = 5, torch.Generator().manual_seed(0)
    sigma = width_of(torch.randn(1, side * side, 4, generator=generator).double())
    rows, columns = target_factors(sigma, side)
    target = Correlation(rows, rows, columns).target
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    for token, head in ((0, 0), (7, 1), (24, 0)):
        own_y, own_x = divmod(token, side)
        s1, s2 = sigma[0, token, 2 * head], sigma[0, token, 2 * head + 1]
        expected = torch.exp(-((y - own_y) ** 2) / (2 * s1**2) - (x - own_x) ** 2 / (2 * s2**2))
        torch.testing.assert_close(target[0, head, token], (expected / expected.sum()).flatten())


def test_widths_lie_between_a_hundred_thousandth_and_two_cells_and_never_give_nan():
    s = torch.tensor([-100.0, 0.0, 100.0])
    torch.testing.assert_close(width_of(s), torch.tensor([1.1e-5, 0.732, 2.0]), atol=2e-6, rtol=1e-3)
    narrow = width_of(torch.full((1, 9, 2), -100.0, requires_grad=True))
    rows, columns = target_factors(narrow, 3)
    target = Correlation(rows, rows, columns).target
    torch.testing.assert_close(target[0, 0], torch.eye(9))
    assert torch.isfinite(torch.autograd.grad(target.square().sum(), narrow)[0]).all()


def random_correlation(side, requires_grad=True):
    scores = torch.randn(1, 2, side**2, side**2, requires_grad=requires_grad)
    s = torch.randn(1, side**2, 4, requires_grad=requires_grad)
    rows, columns = target_factors(width_of(s), side)
    return (scores, s), Correlation(torch.softmax(scores, -1), rows, columns)


def test_divergence_is_both_kullback_leibler_sums():
    _, c = random_correlation(4, requires_grad=False)
    t, s = c.target, c.softmax

    def kl(p, q):
        return (p * ((p + 1e-4).log() - (q + 1e-4).log())).sum(-1)

    torch.testing.assert_close(symmetric_kl(c), (kl(t, s) + kl(s, t)).mean(1), atol=1e-5, rtol=1e-4)


def test_one_backward_gives_the_gradients_of_both_phases():
    """L1 and L2 as the paper writes them, accumulated."""
    torch.manual_seed(1)
    (intra_inputs, intra), (inter_inputs, inter) = random_correlation(3), random_correlation(3)
    tokens, rebuilt = torch.randn(1, 9, 6), torch.randn(1, 9, 6, requires_grad=True)
    leaves = [*intra_inputs, *inter_inputs, rebuilt]

    def div(t, s):
        return ((t - s) * ((t + 1e-4).log() - (s + 1e-4).log())).sum(-1).mean()

    rec = rebuilding_error(tokens, rebuilt).mean()
    t_g, s_g, t_e, s_e = intra.target, intra.softmax, inter.target, inter.softmax
    phase_1 = rec + 0.5 * div(t_g, s_g.detach()) - 0.5 * div(t_e, s_e.detach())
    phase_2 = rec - 0.5 * div(t_g.detach(), s_g) - 0.5 * entropy(s_g)
    phase_2 = phase_2 + 0.5 * div(t_e.detach(), s_e) + 0.5 * entropy(s_e)
    first = torch.autograd.grad(phase_1, leaves, retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(phase_2, leaves, retain_graph=True, allow_unused=True)
    expected = [sum(g for g in pair if g is not None) for pair in zip(first, second, strict=True)]

    terms = objective(tokens, rebuilt, [Layer(intra, inter)], SMALL)
    found = torch.autograd.grad(torch.stack(list(terms.values())).sum(), leaves)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)


def test_position_codes_column_then_row_with_sine_and_cosine():
    code = sine_position(4, 16)
    token = 2 * 4 + 3  # row 2, column 3
    expected = [f(place / 1e4 ** (2 * i / 8)) for place in (3, 2) for i in range(4) for f in (math.sin, math.cos)]
    torch.testing.assert_close(code[token], torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_reference_is_the_mean_over_the_training_images(prepared):
    networks, images = prepared
    features = torch.cat([networks.backbone(image)[1] for image in images.each()])
    pooled = functional.avg_pool2d(features, 3, 1, 1).mean(0).flatten(1).T
    torch.testing.assert_close(networks.reference_coarse, pooled, atol=1e-6, rtol=1e-5)


def test_modulation_is_zero_where_the_token_finds_its_place_best():
    error, divergence = torch.ones(1, 4), torch.tensor([[1.0, 2.0, 0.5, 9.0]])
    w = modulated(error, divergence, "max")
    assert w.argmin() == 2
    assert float(w.min()) == 0
    assert w.argmax() == 3
    p = torch.softmax(-divergence, -1)
    torch.testing.assert_close(modulated(error, divergence, "one"), 1 - p)


def test_training_moves_the_levels_alone_and_lowers_the_reconstruction_error(prepared):
    networks, images = prepared
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    task = FodTask(networks, images, SMALL)
    errors = []
    for _ in range(12):
        task.optimiser.zero_grad()
        losses = task.losses(0)
        torch.stack(list(losses.values())).sum().backward()
        task.optimiser.step()
        errors.append(float(losses["reconstruction_fine"].detach() + losses["reconstruction_coarse"].detach()))
    changed = {
        name.split(".")[0] for name, value in networks.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"levels"}
    assert errors[-1] < errors[0]


def test_the_paper_form_adds_the_tokens_to_the_difference(prepared):
    networks, _ = prepared
    layer = networks.levels[0].layers[0]
    x = torch.randn(1, 32 * 32, 32)
    plain, _ = layer(x, x)
    layer.residual = True
    with_x, _ = layer(x, x)
    assert not torch.allclose(plain, with_x)
