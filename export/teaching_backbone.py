"""Rebuilds the frozen network that `lad-edge teach` describes pictures with: EfficientNet-lite0 up to stride 16, from its pip weights.

    python -m lad_edge.export.teaching_backbone

writes efficientnet_lite0.onnx to lad_edge/assets; the same bytes each time. Weights are stored in half precision, which changes no
activation by more than a bfloat16 engine does, and become float32 when an engine reads them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from lad_edge.export.folding import fold_batch_norms
from lad_edge.export.to_onnx import to_onnx
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.backbones.frozen import backbone
from lad_edge.teaching.backbone import BACKBONES, CELLS, IMAGE, SIDE

ASSETS = Path(__file__).parent.parent / "lad_edge" / "assets"
LARGE = 256  # constants of fewer numbers stay as they are: biases gain nothing


class Cells(nn.Module):
    """Normalised image (1, 3, side, side) → (1, C, side / 16, side / 16): stride 8 averaged two by two, above stride 16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """The description of each cell."""
        fine, coarse = self.network(image)
        return torch.cat([functional.avg_pool2d(fine, 2), coarse], 1)


def teaching_backbone(name: str) -> bytes:
    """The ONNX of a backbone of `frozen.BACKBONES` whose weights install by pip."""
    network = Cells(fold_batch_norms(backbone(name).pretrained(None)))
    model = onnx.load_from_string(to_onnx(network, torch.zeros(1, 3, SIDE, SIDE), [IMAGE], [CELLS]))
    halve_constants(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def halve_constants(model: onnx.ModelProto) -> None:
    """Store large float32 constants as float16 with a Cast behind them: engines fold it away."""
    casts = []
    for constant in model.graph.initializer:
        values = numpy_helper.to_array(constant)
        if values.dtype != np.float32 or values.size < LARGE:
            continue
        name = constant.name
        constant.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_f16"))
        casts.append(helper.make_node("Cast", [f"{name}_f16"], [name], name=f"Cast_{name}", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Rebuild the backbones of lad-edge teach.")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="where they go (default: the package)")
    folder = parser.parse_args().assets
    for name, known in BACKBONES.items():
        data = teaching_backbone(name)
        (folder / known.file).write_bytes(data)
        sys.stdout.write(f"{folder / known.file}: {len(data) / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
