"""How networks are opened on a GPU by ONNX Runtime, and what becomes of CUDA graphs: its sessions compute on the CPU here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from networks import conv_relu, conv_relu_by_numpy

from lad_edge.errors import EngineError
from lad_edge.runtime import onnxruntime as ort
from lad_edge.runtime import onnxruntime_cuda
from lad_edge.runtime.onnxruntime_cuda import OnnxRuntimeCuda

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

STREAM = 5


class Driver:
    """What was asked of sessions. refuses: settings with which no session opens."""

    def __init__(self) -> None:
        self.settings: list[dict[str, str]] = []
        self.refuses: set[str] = set()
        self.closed = False
        self.stream = SimpleNamespace(handle=STREAM)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver()

    class OnCpu(ort.Session):  # type: ignore[misc,name-defined]
        def __init__(self, role: str, graph: Any, data: bytes, _options: Any, providers: Any, remedy: str) -> None:
            ((_, settings),) = providers
            found.settings.append(settings)
            if found.refuses & settings.keys():
                raise EngineError(f"graph '{role}': ONNX Runtime cannot load it: no graph capture")
            super().__init__(role, graph, data, ort.session_options(1), ["CPUExecutionProvider"], remedy)

        def enqueue(self, arrays: Any, device: str = "cpu", *, recording: bool = False) -> None:
            super().enqueue(arrays, device, recording=recording)

    monkeypatch.setattr(onnxruntime_cuda, "Session", OnCpu)
    monkeypatch.setattr(onnxruntime_cuda, "Cuda", lambda: found)
    monkeypatch.setattr(onnxruntime_cuda, "_check_provider", lambda _role, _session: None)
    return found


def open_conv() -> OnnxRuntimeCuda:
    return OnnxRuntimeCuda({"conv": conv_relu()}, "f16", 1)


def test_a_network_computes_on_our_stream_as_a_cuda_graph_of_its_own(driver: Driver) -> None:
    with open_conv() as runtime:
        assert driver.settings[0]["user_compute_stream"] == str(STREAM)
        assert (driver.settings[0]["enable_cuda_graph"], driver.settings[0]["use_tf32"]) == ("1", "0")
        assert runtime.records_itself
        assert runtime.cannot_capture().endswith("each network is a CUDA graph of its own")
    assert driver.closed


def test_a_network_that_cannot_be_recorded_is_opened_without_and_it_is_said(driver: Driver) -> None:
    driver.refuses = {"enable_cuda_graph"}
    with open_conv() as runtime:
        assert [settings.get("enable_cuda_graph") for settings in driver.settings] == ["1", None]
        assert not runtime.records_itself
        assert runtime.cannot_capture().endswith("graph 'conv': ONNX Runtime cannot load it: no graph capture")
        graph, _ = conv_relu()
        buffers = {name: np.ones(shape, np.float32) for name, shape in {**graph.inputs, **graph.outputs}.items()}
        at = {name: SimpleNamespace(pointer=b.ctypes.data, shape=b.shape, dtype=b.dtype) for name, b in buffers.items()}
        runtime.enqueue("conv", None, True, **at)  # type: ignore[arg-type]
        np.testing.assert_allclose(buffers["map"], conv_relu_by_numpy(buffers["image"]), rtol=1e-5, atol=1e-5)


def test_a_network_that_does_not_open_at_all_leaves_the_gpu(driver: Driver) -> None:
    driver.refuses = {"device_id"}
    with pytest.raises(EngineError, match="graph 'conv'"):
        open_conv()
    assert driver.closed
