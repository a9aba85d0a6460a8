"""What the trials of `lad-edge doctor` share: a finding, and a small network whose result numpy knows."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from lad_edge.bundle import Graph

if TYPE_CHECKING:
    from lad_edge.runtime import Runtime

_SHAPE = (1, 64, 64)
_TOLERANCE = {"f32": 1e-5, "bf16": 2e-2, "f16": 2e-3, "int8": 1e-1}


@dataclass(frozen=True)
class Finding:
    """One line of the report. status: "ok", "warn" or "fail"; remedy: what to do, empty when all is well."""

    name: str
    status: str
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """For --json."""
        return asdict(self)


def trial_graph() -> tuple[Graph, bytes]:
    """A network of two nodes, named "trial" where it runs."""
    return Graph("graph/trial", "onnx", {"x": _SHAPE}, {"y": _SHAPE}), trial_network(_SHAPE)


def trial_finding(runtime: Runtime, start_ns: int, remedy: str, note: str = "") -> Finding:
    """Run the trial on an open runtime and compare with numpy. start_ns: monotonic time at which its opening began."""
    x = np.random.default_rng(2).standard_normal(_SHAPE).astype(np.float32)
    y = np.empty(_SHAPE, np.float32)
    runtime.run("trial", x=x, y=y)
    took_ms = (time.monotonic_ns() - start_ns) / 1e6
    meant = np.maximum(x @ x, 0.0)
    error = float(np.abs(y - meant).max() / np.abs(meant).max())
    if not error <= _TOLERANCE[runtime.precision]:
        return Finding(runtime.name, "fail", f"{runtime.precision}: wrong by {error:.1e}", remedy)
    detail = f"{runtime.version} {runtime.precision}: open and first result {took_ms:.0f} ms, error {error:.1e}{note}"
    return Finding(runtime.name, "ok", detail)


def trial_network(shape: tuple[int, ...]) -> bytes:
    """ONNX bytes of y = relu(x · x) for float32 of this shape, encoded by hand: the edge has no onnx package."""
    dims = b"".join(_message(1, _integer(1, size)) for size in shape)
    tensor_type = _message(2, _message(1, _integer(1, 1) + _message(2, dims)))  # TypeProto.tensor_type: FLOAT, shape
    nodes = _node("MatMul", ("x", "x"), "product") + _node("Relu", ("product",), "y")
    values = _message(11, _text(1, "x") + tensor_type) + _message(12, _text(1, "y") + tensor_type)
    graph = nodes + _text(2, "trial") + values
    return _integer(1, 8) + _message(7, graph) + _message(8, _text(1, "") + _integer(2, 18))  # IR 8, opset 18


def _node(operator: str, inputs: tuple[str, ...], output: str) -> bytes:
    return _message(1, b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, operator))


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    low = value & 0x7F
    return bytes([low]) if value < 0x80 else bytes([low | 0x80]) + _varint(value >> 7)
