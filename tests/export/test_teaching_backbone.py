"""The backbone that ships against the network that it was made from."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lad_edge.export.cost import cost  # noqa: E402
from lad_edge.export.teaching_backbone import Cells, teaching_backbone  # noqa: E402

from lad_edge.backbones.frozen import backbone  # noqa: E402
from lad_edge.runtime import open_runtime  # noqa: E402
from lad_edge.teaching.backbone import CELLS, GRAPH, IMAGE, SHIPPED, open_backbone  # noqa: E402

NAMES = sorted(SHIPPED)


@pytest.mark.parametrize("name", NAMES)
def test_what_ships_is_what_the_script_makes(name):
    assert open_backbone(name).onnx == teaching_backbone(name)


@pytest.mark.parametrize("side", [256, 384])
@pytest.mark.parametrize("name", NAMES)
def test_it_describes_as_torch_does_and_costs_what_it_says(name, side):
    shipped = open_backbone(name, side)
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        expected = Cells(backbone(name).pretrained(None))(pixels).numpy()
    found = np.zeros(shipped.graph.outputs[CELLS], np.float32)
    with open_runtime("onnxruntime", {GRAPH: (shipped.graph, shipped.onnx)}, precision="f32", threads=1) as runtime:
        runtime.run(GRAPH, **{IMAGE: pixels.numpy().copy(), CELLS: found})
    error = np.sqrt(np.square(found - expected).mean() / np.square(expected).mean())
    assert error < 5e-3  # its weights are stored in half precision
    assert cost(bytes(shipped.onnx)) == shipped.graph.cost
    assert (shipped.mean, shipped.std) == (backbone(name).mean, backbone(name).std)
