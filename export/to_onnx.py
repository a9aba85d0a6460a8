"""One torch module → the bytes of one ONNX graph: opset 18, static shapes, no names of the machine that made it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET = 18  # the newest that all parsers in use read


def to_onnx(module: nn.Module, example: Tensor, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Export `module` in eval mode. The same weights give the same bytes: traces of the exporter are removed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation notices inside the exporter
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model = program.model_proto
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _strip(model: Any) -> None:
    """Drop metadata and comments, name the nodes by their position, and sort what has no order."""
    del model.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "lad-edge", "", ""
    graph = model.graph
    graph.name, graph.doc_string = "lad-edge", ""
    del graph.value_info[:]
    for position, node in enumerate(graph.node):
        del node.metadata_props[:]
        node.doc_string = ""
        node.name = f"{node.op_type}_{position}"
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    for value in [*graph.input, *graph.output]:
        del value.metadata_props[:]
        value.doc_string = ""
    initialisers = sorted(graph.initializer, key=lambda tensor: tensor.name)
    del graph.initializer[:]
    graph.initializer.extend(initialisers)
