import pytest
import torch
from torch.nn import functional

from lad_edge.detectors.batches import Images
from lad_edge.detectors.codebook import Codebook
from lad_edge.detectors.hvq import Hvq, HvqConfig, HvqTask
from lad_edge.errors import UsageError
from lad_edge.training.trainer import _step

pytestmark = pytest.mark.torch
SMALL = HvqConfig(width=16, heads=2, feed_forward=32, layers=2, entries=8, code_width=4, steps=40, batch=2, dropout=0.0)


def millions(*modules):
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


def test_parameters_are_those_of_the_card():
    with torch.device("meta"):
        hvq = Hvq(384, 24, HvqConfig())
        official = Hvq(384, 24, HvqConfig(psi="identity"))
    places = (hvq.rows.numel() + hvq.columns.numel()) / 1e6
    assert round(millions(hvq.embed, hvq.encoder) + places, 2) == 3.26
    assert round(millions(hvq.quantisers), 2) == 0.33
    assert round(millions(hvq.decoder, hvq.norm, hvq.rebuild), 2) == 4.31
    assert round(millions(official.decoder, official.norm, official.rebuild), 1) == 12.8
    assert official.quantisers.top.entries.shape == (512, 256)
    assert official.quantisers.levels[0].entries.shape == (512, 512)


def test_codes_are_the_nearest_entries_and_the_lowest_of_equals():
    torch.manual_seed(0)
    book = Codebook(6, 3, "ema").eval()
    book.entries.data[5] = book.entries.data[2]
    x = torch.cat([torch.randn(40, 3), book.entries.data])
    expected = torch.cdist(x, book.entries.data).argmin(1)
    assert torch.equal(book.codes(x), expected)
    assert int(book.codes(book.entries.data[5:])) == 2


def test_gradients_go_straight_through_the_entries():
    torch.manual_seed(0)
    book = Codebook(6, 3, "ema").eval()
    x = torch.randn(4, 5, 3, requires_grad=True)
    entry, loss = book(x)
    torch.testing.assert_close(entry.detach(), book.entries.data[book.codes(x.detach())])
    weights = torch.randn(4, 5, 3)
    (through,) = torch.autograd.grad((entry * weights).sum(), x, retain_graph=True)
    torch.testing.assert_close(through, weights)
    (pull,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(pull, 0.25 * 2 * (x - entry).detach() / x.numel())


def test_in_the_gradient_form_entries_are_pulled_to_their_tokens():
    torch.manual_seed(0)
    book = Codebook(4, 3, "gradient")
    x = torch.randn(9, 3)
    entry, loss = book(x)
    expected = 2 * functional.mse_loss(entry, x)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    unused = torch.bincount(book.codes(x), minlength=4) == 0
    assert (book.entries.grad[unused] == 0).all()
    assert (book.entries.grad[~unused] != 0).any(1).all()


def trained_book(vectors):
    book = Codebook(3, 2, "ema").train()
    book.entries.data.copy_(torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 90.0]]))
    book.sums.copy_(2 * book.entries.data)
    book.counts.fill_(2.0)
    book(vectors)
    return book


def test_entries_are_moving_averages_of_what_came():
    vectors = torch.tensor([[1.0, 1.0], [0.0, 1.0], [12.0, 0.0]])
    book = trained_book(vectors)
    book.update(patience=100)
    counts = torch.tensor([2.0, 1.99, 1.98])
    sums = torch.tensor([[0.01, 0.02], [19.8 + 0.12, 0.0], [0.0, 178.2]])
    total = float(counts.sum())
    torch.testing.assert_close(book.counts, counts)
    smoothed = (counts + 1e-5) / (total + 3e-5) * total
    torch.testing.assert_close(book.entries.data, sums / smoothed[:, None])
    assert book.idle.tolist() == [0, 0, 1]


def test_an_entry_that_nothing_comes_to_starts_again_from_a_token():
    vectors = torch.tensor([[1.0, 1.0], [0.0, 1.0], [12.0, 0.0]])
    book = trained_book(vectors)
    book.update(patience=1)
    assert book.idle.tolist() == [0, 0, 0]
    assert any(torch.equal(book.entries.data[2], vector) for vector in vectors)
    assert float(book.counts[2]) == 1


def test_the_first_batch_provides_the_first_entries():
    book = Codebook(5, 2, "ema").train()
    vectors = torch.rand(3, 4, 2) + 7
    book(vectors)
    flat = vectors.flatten(0, 1)
    assert all((flat == entry).all(1).any() for entry in book.entries.data)


@pytest.mark.parametrize("psi", ["linear", "identity"])
def test_the_reconstruction_depends_on_the_codes_alone(psi):
    torch.manual_seed(0)
    hvq = Hvq(6, 4, HvqConfig(width=8, heads=2, feed_forward=16, layers=2, entries=4, code_width=3, psi=psi)).eval()
    features = torch.randn(1, 6, 4, 4)
    codes = hvq.codes(features)
    assert codes.shape == (1, 3, 16)
    nudged = features + 1e-5 * torch.randn_like(features)
    assert torch.equal(hvq.codes(nudged), codes)
    assert torch.equal(hvq(nudged), hvq(features))
    quantised = hvq.quantisers(hvq.encode(features))  # the way that training takes
    torch.testing.assert_close(hvq.decode(quantised.memories), hvq(features), atol=1e-5, rtol=1e-4)


def test_levels_are_chosen_under_the_top_entry():
    torch.manual_seed(0)
    quantisers = Hvq(6, 4, SMALL).eval().quantisers
    depths = [torch.randn(2, 5, 16) for _ in range(3)]
    codes = quantisers.codes(depths)
    z = quantisers.top.entries[codes[:, 0]]
    x = quantisers.psi[1](torch.cat([depths[2], z], -1))
    expected = torch.cdist(x.flatten(0, 1), quantisers.levels[1].entries).argmin(1)
    assert torch.equal(codes[:, 2].flatten(), expected)


def test_the_position_code_is_column_then_row():
    hvq = Hvq(6, 4, SMALL)
    position = hvq.position()
    torch.testing.assert_close(position[2 * 4 + 3], torch.cat([hvq.columns[3], hvq.rows[2]]))


class Fixed(torch.nn.Module):
    """Networks whose features are the picture itself, averaged."""

    def __init__(self, config):
        super().__init__()
        self.hvq = Hvq(3, 4, config)

    def describe(self, image):
        return functional.adaptive_avg_pool2d(image, 4)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_training_lowers_the_reconstruction_error_with_clipped_gradients(codebook):
    torch.manual_seed(0)
    config = HvqConfig(**{**SMALL.__dict__, "codebook": codebook, "learning_rate": 3e-3})
    networks = Fixed(config)
    task = HvqTask(networks, Images(torch.rand(4, 3, 8, 8), 0, torch.device("cpu")), config)
    errors = [float(_step(task, 0, step)["reconstruction"]) for step in range(40)]
    norm = torch.stack([p.grad.norm() for p in networks.hvq.parameters() if p.grad is not None]).norm()
    assert float(norm) <= 0.1001
    assert sum(errors[-5:]) < 0.8 * sum(errors[:5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"side": 256}, "needs 224"),
        ({"size": "l"}, "--size l"),
        ({"psi": "deep"}, "expected one of linear, identity"),
        ({"codebook": "random"}, "expected one of ema, gradient"),
        ({"width": 40}, "multiple of 16"),
        ({"entries": 1}, "expected 2 to 4096"),
        ({"layers": 0}, "at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        HvqConfig(**settings).check()
