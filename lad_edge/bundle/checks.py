"""What must hold between the manifest and the tensors; the writer and the reader ask the same questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.bundle.gates import check_gates
from lad_edge.bundle.layout import raw_bytes
from lad_edge.bundle.mask import check_mask
from lad_edge.bundle.onnx_guard import OnnxRefusedError, inspect_onnx
from lad_edge.bundle.refused import Refused
from lad_edge.bundle.registration import check_registration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lad_edge.bundle.manifest import Calibration, Contract, Graph, Manifest


def check_contents(manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Refuse graphs, calibrations and golden frames that do not fit the manifest or each other."""
    for role, graph in manifest.graphs.items():
        _check_graph(role, graph, tensors)
    for role, cache in manifest.device.caches.items() if manifest.device else ():
        _bytes(tensors, cache, f"device.caches.{role}")
    _check_network_input(manifest)
    frames = _tensor(tensors, manifest.golden.frames, "golden.frames")
    _check_frames(frames, manifest.contract)
    if manifest.gates is not None:
        check_gates(manifest.gates, tensors)
    if manifest.registration is not None:
        contract = manifest.contract
        check_registration(manifest.registration, contract.roi, (contract.width, contract.height), tensors)
    if manifest.mask is not None:
        check_mask(manifest.mask, manifest.contract.region_px, tensors)
    for precision, calibration in manifest.calibrations.items():
        where = f"calibrations.{precision}"
        _check_scores(_tensor(tensors, calibration.scores, f"{where}.scores"), where)
        _check_golden_scores(_tensor(tensors, calibration.golden_scores, f"{where}.golden_scores"), len(frames), where)
        if calibration.places is not None:
            _check_places(
                _tensor(tensors, calibration.places, f"{where}.places"), len(calibration.normalisation), where
            )
        _check_tolerance(manifest, precision, calibration)


def _tensor(tensors: Mapping[str, NDArray[Any]], name: str, where: str) -> NDArray[Any]:
    if name not in tensors:
        raise Refused("MANIFEST", f"'{where}' names the tensor '{name}', which is not in the bundle")
    return tensors[name]


def _check_graph(role: str, graph: Graph, tensors: Mapping[str, NDArray[Any]]) -> None:
    data = _bytes(tensors, graph.tensor, f"graphs.{role}.tensor")
    if graph.source is not None:
        _check_engine(role, graph, data)
        data = _bytes(tensors, graph.source, f"graphs.{role}.source")
    try:
        found = inspect_onnx(data)
    except OnnxRefusedError as exc:
        raise Refused("GRAPH", f"graph '{role}' is refused: {exc}") from exc
    difference = found.difference(graph.inputs, graph.outputs)
    if difference:
        raise Refused("SHAPE", f"graph '{role}': {difference}")


def _bytes(tensors: Mapping[str, NDArray[Any]], name: str, where: str) -> memoryview:
    tensor = _tensor(tensors, name, where)
    if tensor.dtype != np.uint8 or tensor.ndim != 1:
        raise Refused("SHAPE", f"'{where}': expected bytes as U8 of one dimension, came {tensor.dtype} {tensor.shape}")
    return raw_bytes(tensor)


def _check_engine(role: str, graph: Graph, data: memoryview) -> None:
    """TensorRT is asked only for what says that it is an engine; which one may run here is the runtime's question.

    ONNX Runtime's engine is a network, which it checks when it is opened.
    """
    if graph.format != "onnxruntime_cuda" and not bytes(data[:4]).endswith(b"trt"):
        raise Refused(
            "GRAPH", f"graph '{role}': expected an engine of {graph.format}, came other bytes; build it again"
        )


def _check_network_input(manifest: Manifest) -> None:
    expected = (1, 3, *manifest.contract.size)
    shapes = [(role, name, shape) for role, graph in manifest.graphs.items() for name, shape in graph.inputs.items()]
    for role, name, shape in shapes:
        if name == "image" and shape != expected:
            raise Refused("SHAPE", f"graph '{role}': input 'image' is {shape}, the contract makes {expected}")
    if not any(shape == expected for _, _, shape in shapes):
        raise Refused("SHAPE", f"no graph takes the tensor of shape {expected} that the contract makes")


def _check_frames(frames: NDArray[Any], contract: Contract) -> None:
    channels = () if contract.pixel_format == "mono8" else (3,)
    fits = frames.dtype == np.uint8 and frames.ndim == 3 + len(channels) and frames.shape[3:] == channels
    if fits and contract.width is not None:
        fits = frames.shape[1:3] == (contract.height, contract.width)
    if not fits:
        sides = ("H", "W") if contract.width is None else (contract.height, contract.width)
        expected = ", ".join(str(side) for side in ("N", *sides, *channels))
        raise Refused("SHAPE", f"golden frames: expected U8 ({expected}), came {frames.dtype} {frames.shape}")


def _check_scores(scores: NDArray[Any], where: str) -> None:
    if scores.dtype != np.float64 or scores.ndim != 1:
        raise Refused("SHAPE", f"'{where}.scores': expected F64 of one dimension, came {scores.dtype} {scores.shape}")
    if not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
        raise Refused("MANIFEST", f"'{where}.scores': expected finite scores in rising order")


def _check_golden_scores(scores: NDArray[Any], frames: int, where: str) -> None:
    if scores.dtype not in (np.dtype(np.float32), np.dtype(np.float64)) or scores.shape != (frames,):
        raise Refused(
            "SHAPE",
            f"'{where}.golden_scores': expected {frames} floats, one a frame, came {scores.dtype} {scores.shape}",
        )
    if not np.isfinite(scores).all():
        raise Refused("MANIFEST", f"'{where}.golden_scores': expected finite scores")


def _check_places(places: NDArray[Any], branches: int, where: str) -> None:
    if places.dtype != np.float32 or places.ndim != 4 or places.shape[:2] != (2, branches):
        raise Refused(
            "SHAPE", f"'{where}.places': expected F32 (2, {branches}, h, w), came {places.dtype} {places.shape}"
        )
    if not np.isfinite(places).all() or (places[1] <= 0).any():
        raise Refused("MANIFEST", f"'{where}.places': expected finite means and scales above 0")


def _check_tolerance(manifest: Manifest, precision: str, calibration: Calibration) -> None:
    if precision not in manifest.golden.tolerance:
        raise Refused(
            "MANIFEST",
            f"key 'golden.tolerance.{precision}' is missing, but {calibration.runtime} is calibrated at {precision}",
        )
