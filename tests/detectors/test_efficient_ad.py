import pytest
import torch
from torch import nn

from lad_edge.backbones.pdn import description_side
from lad_edge.detectors.autoencoder import AUTOENCODER_SIZES, Autoencoder
from lad_edge.detectors.batches import Images, augment_colour, decay
from lad_edge.detectors.dfsc import DfscConfig, DfscTask, separation
from lad_edge.detectors.efficient_ad import EfficientAd, EfficientAdConfig, EfficientAdTask, hardest_mean

pytestmark = pytest.mark.torch


def some_images(count=3, side=256, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Images(torch.rand(count, 3, side, side, generator=generator), seed, torch.device("cpu"))


def test_autoencoder_has_the_parameters_and_the_shape_of_the_card():
    autoencoder = Autoencoder(AUTOENCODER_SIZES["s"], 384, 256, instance_norm=False).eval()
    assert round(sum(p.numel() for p in autoencoder.parameters()) / 1e6, 3) == 1.096
    with torch.no_grad():
        assert autoencoder(torch.rand(1, 3, 256, 256)).shape == (1, 384, 56, 56)


def test_dfsc_autoencoder_has_twelve_instance_norms_and_none_on_the_latent_vector():
    autoencoder = Autoencoder(AUTOENCODER_SIZES["s"], 384, 256, instance_norm=True)
    norms = [module for module in autoencoder.modules() if isinstance(module, nn.InstanceNorm2d)]
    assert len(norms) == 12
    assert isinstance(autoencoder.encoder[-1], nn.Conv2d)
    assert isinstance(autoencoder.decoder.start, nn.ReLU)
    assert not any(norm.affine or norm.track_running_stats for norm in norms)
    autoencoder.train()(torch.rand(1, 3, 256, 256))  # undefined statistics on the 1×1 map would raise here


@pytest.mark.parametrize("side", [256, 320, 448, 512])
@pytest.mark.parametrize("instance_norm", [False, True])
def test_xs_autoencoder_has_the_side_of_the_description(side, instance_norm):
    autoencoder = Autoencoder(AUTOENCODER_SIZES["xs"], 128, side, instance_norm=instance_norm)
    out_side = description_side(side)
    assert autoencoder(torch.rand(2, 3, side, side)).shape == (2, 128, out_side, out_side)


def test_decay_is_a_tenth_at_the_end_or_half_a_cosine():
    step = decay(EfficientAdConfig(steps=100))
    assert [step(k) for k in (0, 94, 95, 99)] == [1.0, 1.0, 0.1, 0.1]
    cosine = decay(EfficientAdConfig(steps=100, schedule="cosine"))
    assert [cosine(k) for k in (0, 50)] == pytest.approx([1.0, 0.5])
    assert 0 < cosine(99) < 1e-3


@pytest.mark.parametrize("shape", [(1, 4, 9, 9), (2, 8, 16, 16), (1, 128, 24, 24), (1, 1, 1, 1000), (1, 1, 1, 1001)])
def test_hardest_mean_is_the_mean_from_the_interpolated_quantile_on(shape):
    squares = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    expected = [image[image >= torch.quantile(image, 0.999)].mean() for image in squares.flatten(1)]
    torch.testing.assert_close(hardest_mean(squares), torch.stack(expected).mean())


def test_separation_follows_the_card_step_by_step():
    generator = torch.Generator().manual_seed(2)
    described, reconstructed = (torch.randn(1, 16, 12, 12, generator=generator) for _ in range(2))
    errors = (described - reconstructed) ** 2
    selected = errors >= torch.quantile(errors, 0.999)
    units = [x / x.norm(dim=1, keepdim=True) for x in (described, reconstructed)]
    distance = ((units[0] - units[1]) * selected).square().sum(1).sqrt()
    expected = (0.7 - distance).clamp_min(0).mean()
    torch.testing.assert_close(separation(described, reconstructed, 0.7), expected)


def test_separation_has_a_finite_gradient_where_no_channel_is_selected():
    generator = torch.Generator().manual_seed(3)
    described = torch.randn(1, 8, 20, 20, generator=generator)
    reconstructed = described.clone().requires_grad_()
    separation(described, reconstructed, 1.0).backward()
    assert torch.isfinite(reconstructed.grad).all()


def test_separation_pushes_the_reconstruction_away():
    generator = torch.Generator().manual_seed(4)
    described = torch.randn(1, 8, 20, 20, generator=generator)
    reconstructed = (described + 0.1 * torch.randn(described.shape, generator=generator)).requires_grad_()
    before = separation(described, reconstructed, 1.0)
    before.backward()
    with torch.no_grad():
        after = separation(described, reconstructed - 10 * reconstructed.grad, 1.0)
    assert after < before


def test_teacher_statistics_are_those_over_all_images_and_positions():
    torch.manual_seed(0)
    networks, images = EfficientAd("xs", 256, instance_norm=False), some_images(5)
    networks.prepare(images)
    with torch.no_grad():
        described = torch.cat([networks.teacher(image) for image in images.each()]).double()
    torch.testing.assert_close(networks.mean.flatten().double(), described.mean((0, 2, 3)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        networks.std.flatten().double(), described.var((0, 2, 3), unbiased=False).sqrt(), atol=1e-6, rtol=1e-5
    )


def test_maps_are_mean_squares_of_teacher_student_and_autoencoder():
    torch.manual_seed(0)
    networks = EfficientAd("xs", 256, instance_norm=False).eval()
    image = torch.randn(2, 3, 256, 256)
    with torch.no_grad():
        maps, student = networks(image), networks.student(image)
        structural = (networks.describe(image) - student[:, :128]).square().mean(1)
        logical = (networks.autoencoder(image) - student[:, 128:]).square().mean(1)
    torch.testing.assert_close(maps, torch.stack([structural, logical], 1))


def test_every_loss_of_efficient_ad_is_there_and_reaches_student_and_autoencoder():
    torch.manual_seed(0)
    networks, images = EfficientAd("xs", 256, instance_norm=False), some_images()
    networks.prepare(images)
    task = EfficientAdTask(networks, images, EfficientAdConfig(size="xs", side=256, steps=10), some_images(seed=9))
    losses = task.losses(0)
    assert set(losses) == {"hard", "autoencoder", "student_autoencoder", "penalty"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in networks.student.parameters())
    assert all(p.grad is not None for p in networks.autoencoder.parameters())
    assert all(p.grad is None for p in networks.teacher.parameters())


def test_dfsc_exports_the_moving_average_of_the_student():
    torch.manual_seed(0)
    networks, images = EfficientAd("xs", 256, instance_norm=True), some_images()
    networks.prepare(images)
    task = DfscTask(networks, images, DfscConfig(size="xs", side=256, steps=10))
    start = networks.student.head.bias.clone()
    losses = task.losses(0)
    assert set(losses) == {"hard", "autoencoder", "student_autoencoder", "separation"}
    sum(losses.values()).backward()
    task.optimiser.step()
    task.after_step()
    torch.testing.assert_close(networks.student.head.bias, 0.99 * start + 0.01 * task.online.head.bias)
    assert not torch.equal(networks.student.head.bias, start)


@pytest.mark.parametrize(("task", "config"), [(EfficientAdTask, EfficientAdConfig), (DfscTask, DfscConfig)])
def test_student_batch_spares_the_student_and_leaves_the_autoencoder_its_pictures(task, config):
    def losses(**settings):
        torch.manual_seed(0)
        networks = EfficientAd("xs", 256, instance_norm=config.instance_norm).eval()  # alike in all cases: no dropout
        torch.manual_seed(1)  # the same colours
        return task(networks, some_images(), config(size="xs", steps=10, **settings)).losses(0)

    every, first, alone = losses(batch=3), losses(batch=3, student_batch=1), losses(batch=1)
    assert_near(first["autoencoder"], every["autoencoder"])
    assert_near(first["hard"], alone["hard"])
    assert not torch.isclose(first["hard"], every["hard"], rtol=1e-3)


def assert_near(value, expected):
    torch.testing.assert_close(value, expected, atol=0, rtol=2e-2)  # bfloat16, and kernels differ with the batch


def test_learning_rate_of_dfsc_warms_up_and_falls_at_the_end():
    networks, images = EfficientAd("xs", 256, instance_norm=True), some_images()
    task = DfscTask(networks, images, DfscConfig(size="xs", side=256, steps=10_000))
    factor = task.schedule.lr_lambdas[0]
    factors = [factor(step) for step in (0, 333, 5000, 9000)]
    assert factors[0] == pytest.approx(0.003, rel=0.01)
    assert factors[1] == pytest.approx(1 - 1 / torch.e, abs=0.01)
    assert factors[2] == pytest.approx(1)
    assert factors[3] == pytest.approx(0.1)


def test_image_order_depends_on_seed_and_step_only():
    one, other = some_images(7), some_images(7)
    other.indices(100, 2)
    assert one.indices(3, 2) == other.indices(3, 2)
    assert sorted(one.indices(0, 7)) == list(range(7))
    assert one.indices(0, 7) != one.indices(1, 7)


def test_colour_augmentation_stays_in_range_and_changes_the_picture():
    torch.manual_seed(0)
    pixels = torch.rand(6, 3, 16, 16)
    changed = augment_colour(pixels)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.equal(changed, pixels)
    assert (changed - pixels).abs().max() <= 0.2 + 1e-6
