import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from lad_edge.detectors import divergence
from lad_edge.detectors.batches import Images
from lad_edge.detectors.divergence import Correlation, divergence_and_entropy, symmetric_kl
from lad_edge.detectors.fod import (
    Fod,
    FodConfig,
    FodTask,
    Layer,
    modulated,
    objective,
    rebuilding_error,
    sine_position,
    target_factors,
    width_of,
)
from lad_edge.detectors.references import farthest_first, k_means
from lad_edge.errors import UsageError

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tiny_backbone")]
SMALL = FodConfig(backbone="tiny", width_fine=32, width_coarse=64, heads=4, layers=2, steps=3)


@pytest.fixture
def prepared():
    torch.manual_seed(0)
    networks, images = Fod(SMALL), some_images(3)
    networks.prepare(images)
    return networks, images


def some_images(count):
    stack = torch.rand(count, 3, 256, 256, generator=torch.Generator().manual_seed(5))
    return Images(stack, 7, torch.device("cpu"))


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


@pytest.mark.parametrize("pulled", ["softmax", "target"])
def test_means_and_gradients_do_not_depend_on_the_blocks(pulled, monkeypatch):
    torch.manual_seed(2)
    inputs, c = random_correlation(4)

    def computed():
        means = divergence_and_entropy(c, pulled=pulled)
        return [*means, *torch.autograd.grad(2 * means[0] + 3 * means[1], inputs, retain_graph=True)]

    whole = computed()
    monkeypatch.setitem(divergence.BLOCK, "cpu", 5 * 16)  # rows of 16: 32 rows in blocks of five, the last one of two
    for mine, theirs in zip(computed(), whole, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(whole[0], symmetric_kl(c).mean())


def test_one_backward_gives_the_gradients_of_both_phases():
    """L1 and L2 as the paper writes them, accumulated."""
    torch.manual_seed(1)
    (intra_inputs, intra), (inter_inputs, inter) = random_correlation(3), random_correlation(3)
    tokens, rebuilt = torch.randn(1, 9, 6), torch.randn(1, 9, 6, requires_grad=True)
    leaves = [*intra_inputs, *inter_inputs, rebuilt]

    def div(t, s):
        return ((t - s) * ((t + 1e-4).log() - (s + 1e-4).log())).sum(-1).mean()

    def entropy(s):
        return -(s * (s + 1e-4).log()).sum(-1).mean()

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
    torch.testing.assert_close(networks.reference_coarse, pooled[None], atol=1e-6, rtol=1e-5)


def pictures_of(networks, images):
    return torch.cat([networks.tokens(image, 1) for image in images.each()])


@pytest.mark.parametrize("kind", ["coreset", "codebook"])
def test_other_constant_references_hold_the_entry_nearest_to_the_mean_of_each_place(kind):
    torch.manual_seed(0)
    networks, images = Fod(replace(SMALL, reference=kind, reference_entries=8)), some_images(3)
    networks.prepare(images)
    pictures, found = pictures_of(networks, images), networks.reference_coarse
    assert found.shape == (1, 256, 16)
    assert len(found[0].unique(dim=0)) <= 8
    own = {tuple(token.tolist()) for token in pictures.flatten(0, 1)}
    assert all(tuple(token.tolist()) in own for token in found[0]) == (kind == "coreset")
    mean = pictures.mean(0)
    to_own, to_all = (mean - found[0]).square().sum(1), torch.cdist(mean, found[0]).square().amin(1)
    torch.testing.assert_close(to_own, to_all, atol=1e-5, rtol=1e-4)


def test_k_means_finds_separated_groups():
    generator = torch.Generator().manual_seed(3)
    places = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    features = places.repeat(40, 1) + 0.1 * torch.randn(120, 2, generator=generator)
    found = k_means(features, 3)
    torch.testing.assert_close(found[found.sum(1).argsort()][0], places[0], atol=0.1, rtol=0)
    assert torch.cdist(places, found).amin(1).max() < 0.1


def test_farthest_first_begins_in_the_middle_and_takes_the_ends_next():
    features = torch.tensor([[0.0], [1.0], [4.6], [5.0], [9.0], [10.0]])
    assert farthest_first(features, 3).tolist() == [3, 0, 5]


def test_the_nearest_reference_is_the_training_picture_most_alike_and_in_training_never_itself():
    torch.manual_seed(0)
    networks, images = Fod(replace(SMALL, reference="nearest", reference_pictures=3)), some_images(5)
    networks.prepare(images)
    bank = networks.bank(1)
    assert bank.shape == (3, 256, 16)
    pictures = pictures_of(networks, images)
    assert all(any(torch.equal(one, picture) for picture in pictures) for one in bank)
    tokens = torch.stack([bank[2], bank[0] + 0.01 * torch.randn_like(bank[0])])
    torch.testing.assert_close(networks.eval().reference(1, tokens), bank[[2, 0]])
    in_training = networks.train().reference(1, tokens.half().float())
    assert not torch.equal(in_training[0], bank[2])
    assert any(torch.equal(in_training[0], one) for one in bank)


def test_with_a_nearest_reference_each_picture_of_a_batch_has_its_own(prepared):
    torch.manual_seed(0)
    networks, images = Fod(replace(SMALL, reference="nearest", reference_pictures=2)), some_images(4)
    networks.prepare(images)
    networks.eval()
    batch = torch.cat(list(images.each()))
    with torch.no_grad():
        together = networks(batch)
        for index in range(len(batch)):
            for whole, alone in zip(together, networks(batch[index : index + 1]), strict=True):
                for both, one in zip(whole, alone, strict=True):
                    torch.testing.assert_close(both[index : index + 1], one, atol=1e-5, rtol=1e-4)


def test_references_that_cannot_be_chosen_are_refused():
    with pytest.raises(UsageError, match="reference median: expected one of mean, nearest, coreset, codebook"):
        replace(SMALL, reference="median").check()
    with pytest.raises(UsageError, match="reference_pictures 1: expected at least 2"):
        replace(SMALL, reference_pictures=1).check()
    networks = Fod(replace(SMALL, reference="nearest", reference_pictures=4))
    with pytest.raises(UsageError, match="reference_pictures 4: expected fewer than the 4 training images"):
        networks.prepare(some_images(4))


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
