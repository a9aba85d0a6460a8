"""Every detector's networks, as they are exported, become engines of TensorRT-RTX for the GPUs of three generations, without a GPU."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from gpu_needs import needs_rtx
from lad_edge.export.export import EXPORTERS
from lad_edge.export.exporter import Exported
from lad_edge.export.half import to_half

from lad_edge.runtime import compiler
from lad_edge.runtime.compiler import choose_target, compile_graph
from lad_edge.training.fit import METHODS, make_config

pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    needs_rtx,
]
SMALL: dict[str, dict[str, Any]] = {
    "efficient_ad": {"size": "xs"},
    "dfsc": {"size": "xs"},
    "ulsad": {"decoder": "projected"},
    "fod": {"width_fine": 32, "width_coarse": 32, "heads": 4, "layers": 2},
    "ladmim": {"size": "xs", "width": 32, "heads": 4, "feed_forward": 64, "entries": 16, "code_width": 8}
    | {"mim_width": 32, "mim_heads": 4, "mim_layers": 2, "test_masks": 6},
}
GPUS = ("sm_86", "sm_89", "sm_120")
NEAR = 3e-2  # of the largest value of an output: networks of random weights, whose errors nothing trained away


@pytest.fixture(scope="module", params=list(SMALL))
def parts(request: pytest.FixtureRequest) -> Exported:
    torch.manual_seed(0)
    config = make_config(request.param, SMALL[request.param])
    networks = METHODS[request.param].networks(config).eval().requires_grad_(False)
    if request.param == "ladmim":
        masks = config.draw_masks(np.random.default_rng(0), config.test_masks, networks.side)
        networks.masks.copy_(torch.from_numpy(masks))
    return EXPORTERS[request.param].export(networks, config, "zero")


@pytest.mark.parametrize("precision", compiler.PRECISIONS)
def test_the_networks_of_a_detector_become_engines(parts: Exported, precision: str, record_property: Any) -> None:
    for role, (graph, onnx) in parts.graphs.items():
        data = to_half(onnx) if precision == "f16" else onnx
        for gpu in GPUS:
            started = time.monotonic()
            engine = compile_graph(choose_target("tensorrt_rtx", (gpu,)), role, graph, data)
            record_property(f"{role} {precision} {gpu}", f"{len(engine)} bytes, {time.monotonic() - started:.2f} s")
            assert engine[:4] == b"vtrt"
            assert len(engine) > len(data) // 2  # the weights are inside


def test_f16_stays_near_full_precision(parts: Exported) -> None:
    for graph, onnx in parts.graphs.values():
        random = np.random.default_rng(1)
        given = {name: random.standard_normal(shape, np.float32) for name, shape in graph.inputs.items()}
        expected, found = (answers(data, given) for data in (onnx, to_half(onnx)))
        for name, values in expected.items():
            assert np.isfinite(found[name]).all()
            assert np.abs(found[name] - values).max() < NEAR * np.abs(values).max(), name


def answers(onnx: bytes, given: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(given)), strict=True))
