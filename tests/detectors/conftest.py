import pytest
import torch

from lad_edge.backbones.frozen import BACKBONES, Backbone


class Tiny(torch.nn.Module):
    """Two strided convolutions in the place of a backbone, so that a step takes milliseconds."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = torch.nn.Conv2d(3, 8, 8, 8), torch.nn.Conv2d(8, 16, 2, 2)

    def forward(self, image):
        fine = self.fine(image)
        return [fine, self.coarse(fine)]


@pytest.fixture
def tiny_backbone(monkeypatch):
    """A backbone named "tiny"."""
    kind = Backbone((8, 16), 3 * (0.5,), 3 * (0.2,), Tiny, lambda _: Tiny().requires_grad_(False))
    monkeypatch.setitem(BACKBONES, "tiny", kind)
