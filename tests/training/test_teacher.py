import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from lad_edge.backbones.downloads import DOWNLOADS, Download
from lad_edge.backbones.pdn import PDN_SIZES, Pdn
from lad_edge.errors import DataError
from lad_edge.training.checkpoint import load_tensors
from lad_edge.training.teacher import (
    ChannelStatistics,
    CropCache,
    DistillationConfig,
    NeighbourhoodTargets,
    cut_windows,
    train_teacher,
)

pytestmark = pytest.mark.torch


def pool(maps, channels):
    n, c, h, w = maps.shape
    vectors = maps.permute(0, 2, 3, 1).reshape(n, h * w, c)
    return functional.adaptive_avg_pool1d(vectors, channels).reshape(n, h, w, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [128, 384])
def test_targets_equal_the_card_step_by_step(channels):
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 40, 64, 64, generator=generator), torch.randn(2, 112, 32, 32, generator=generator)]
    pooled = []
    for level in levels:
        n, c, h, w = level.shape
        patches = functional.unfold(level, 3, padding=1).reshape(n, c * 9, h, w)
        patches = functional.interpolate(patches, size=(64, 64), mode="bilinear", align_corners=False)
        pooled.append(pool(patches, 1024))
    expected = pool(torch.cat(pooled, 1), channels)
    torch.testing.assert_close(NeighbourhoodTargets([40, 112], channels)(levels), expected, atol=1e-5, rtol=1e-5)


def test_targets_of_few_crops_are_standardised_by_all_of_them():
    photographs = list(np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3), np.uint8))
    cpu, config = torch.device("cpu"), DistillationConfig(size="xs", crops_per_photograph=1)
    cache = CropCache(photographs, lambda image: [functional.avg_pool2d(image, side) for side in (8, 16)], config, cpu)
    targets = NeighbourhoodTargets([3, 3], 6)
    values = targets([level.float() for level in cache.features])
    standardised = ChannelStatistics(cache, targets, cpu).standardise(values)
    torch.testing.assert_close(standardised.mean((0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardised.std((0, 2, 3)), torch.ones(6), atol=1e-4, rtol=0)


def test_windows_hold_the_patches_that_the_padded_network_describes_there():
    torch.manual_seed(0)
    padded, plain = Pdn(PDN_SIZES["xs"], padded=True).eval(), Pdn(PDN_SIZES["xs"]).eval()
    plain.load_state_dict(padded.state_dict())
    images = torch.rand(3, 3, 256, 256)
    with torch.no_grad():
        windows, expected = cut_windows(images, padded(images), 96, torch.Generator().manual_seed(1))
        torch.testing.assert_close(plain(windows), expected, atol=1e-5, rtol=1e-4)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(16):
        coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(coarse, (96, 80), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("window", [96, 256])
def test_distillation_lowers_the_loss_and_resumes_to_the_same_weights(tmp_path, photographs, window):
    def config(steps):
        return DistillationConfig(
            size="xs", steps=steps, batch=2, learning_rate=1e-3, crops_per_photograph=1, window=window
        )

    whole = train_teacher(photographs, tmp_path / "whole.safetensors", config(8), quiet=True)
    again = train_teacher(photographs, tmp_path / "whole.safetensors", config(8), quiet=True)
    assert whole["final_loss"] < 1.1  # targets have unit variance
    assert again["final_loss"] == whole["final_loss"]
    weights, meta = load_tensors(tmp_path / "whole.safetensors")
    assert meta["size"] == "xs"
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}


def test_too_few_photographs_are_refused(tmp_path):
    with pytest.raises(DataError, match="at least 16 photographs, found 0"):
        train_teacher(tmp_path, tmp_path / "t.safetensors", DistillationConfig(size="xs", steps=1), quiet=True)


def test_a_wide_backbone_without_a_network_says_what_was_tried(tmp_path, photographs, monkeypatch):
    monkeypatch.setitem(DOWNLOADS, "wide_resnet101_2", Download("http://127.0.0.1:1/wide-00000000.pth", "00000000"))
    monkeypatch.setenv("LAD_EDGE_CACHE", str(tmp_path))
    config = DistillationConfig(size="xs", steps=1, backbone="wide_resnet101_2")
    with pytest.raises(DataError, match=r"tried to download http://127.0.0.1:1/wide-00000000.pth.*pass --weights FILE"):
        train_teacher(photographs, tmp_path / "t.safetensors", config, quiet=True)
