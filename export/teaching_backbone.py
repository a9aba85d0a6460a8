"""Makes the frozen networks that `lad-edge teach` describes pictures with: a backbone up to stride 16, from its published weights.

    python -m lad_edge.export.teaching_backbone
    python -m lad_edge.export.teaching_backbone --backbone efficientnet-lite2 -o lite2.onnx

The first rebuilds the one in lad_edge/assets, the same bytes each time; the second makes a file for `teach --backbone lite2.onnx`.
Weights are stored in half precision, which changes no activation by more than a bfloat16 engine does, and become float32 when an
engine reads them. The file says of itself how pictures are normalised.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from lad_edge.export.cost import cost
from lad_edge.export.folding import fold_batch_norms
from lad_edge.export.to_onnx import to_onnx
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.backbones.frozen import BACKBONES, backbone
from lad_edge.teaching.backbone import ABOUT, CELLS, IMAGE, SHIPPED, SIDE

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
    """The ONNX of a backbone of `frozen.BACKBONES`, for pictures of SIDE px. Raises DataError if its weights cannot be had."""
    known = backbone(name)
    network = Cells(fold_batch_norms(known.pretrained(None)))
    model = onnx.load_from_string(to_onnx(network, torch.zeros(1, 3, SIDE, SIDE), [IMAGE], [CELLS]))
    halve_constants(model)
    about = {"name": name, "mean": known.mean, "std": known.std, **vars(cost(model.SerializeToString()))}
    helper.set_model_props(model, {ABOUT: json.dumps(about)})
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="teaching_backbone"
    )
    parser.add_argument("--backbone", choices=sorted(BACKBONES), help="default: the one that ships")
    parser.add_argument("-o", "--out", type=Path, metavar="X.onnx", help="where it goes (default: the package)")
    args = parser.parse_args()
    name = args.backbone or next(iter(SHIPPED))
    if args.out is None and name not in SHIPPED:
        parser.error(f"{name} does not ship: name a file for it, such as -o {name}.onnx")
    out, data = args.out or ASSETS / SHIPPED[name], teaching_backbone(name)
    out.write_bytes(data)
    sys.stdout.write(f"{out}: {len(data) / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
