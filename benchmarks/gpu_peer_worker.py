"""EfficientAD as a contestant: python -m benchmarks.gpu_peer_worker KIND ENGINE WORK DEVICE.

ours: the product; ENGINE is a plan or a portable file. The others are what users of PyTorch and ONNX Runtime write: OpenCV and numpy before
and after the same network, score and map on the host at the end. Their raw maps are compared with the CPU's before anything is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.contestant import serve
from benchmarks.frame import bare_buffers
from benchmarks.gpu_engines import networks, pictures_for
from benchmarks.gpu_frames import options_for
from benchmarks.peer_worker import relative_error
from lad_edge import bundle
from lad_edge.inspector import Inspector, Options
from lad_edge.scoring.base import affine
from lad_edge.scoring.efficient_ad import GRAPH

TOLERANCE = {
    "f32": 1e-2,
    "f16": 3e-2,
}  # of the largest value; torch's f32 convolutions are TF32 unless it is told otherwise
Maps = Callable[[np.ndarray], np.ndarray]  # (1, 3, side, side) float32 → raw maps (2, h, w) float32


def main() -> None:
    """Load, compare, serve."""
    kind, engine, folder, device = sys.argv[1:]
    cv2.setNumThreads(1)
    work, opened = Path(folder), bundle.read(Path(engine))
    pictures = np.stack(pictures_for(opened, work))
    if kind == "ours":
        serve(ours(opened, device), pictures, runtime=kind)
        return
    maps = _peers(opened, work, device)[kind]()
    error = raw_map_error(maps, opened)
    if error > TOLERANCE[kind.split()[-1]]:
        raise AssertionError(f"{kind}: raw maps differ by {error:.2g} from the CPU's, nothing was measured")
    serve(partial(judge, maps, opened), pictures, runtime=kind, raw_map_error=error)


def ours(opened: bundle.Bundle, device: str) -> Callable[[np.ndarray], float]:
    """The product as its README shows it."""
    inspector = Inspector(opened, options_for(opened, device))

    def call(picture: np.ndarray) -> float:
        result = inspector(picture)
        if result.score is None:
            raise RuntimeError(f"a picture was not scored: {result.detail}")
        return result.score

    return call


def by_torch(name: str, work: Path, device: str, *, half: bool, compiled: bool) -> Maps:
    """The folded network, eager or compiled with CUDA graphs."""
    import torch
    from lad_edge.export.efficient_ad import fold  # type: ignore[import-not-found,unused-ignore]

    kind = torch.float16 if half else torch.float32
    folded: Any = fold(networks(name, work)[1])
    network = folded.to(device, kind, memory_format=torch.channels_last)
    if compiled:
        network = torch.compile(network, mode="reduce-overhead")

    def maps(tensor: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            image = torch.from_numpy(tensor).to(device, kind, memory_format=torch.channels_last)
            found: np.ndarray = network(image)[0].float().cpu().numpy()
        return found

    return maps


def by_onnxruntime(opened: bundle.Bundle, device: str, *, half: bool) -> Maps:
    """The exported network as `InferenceSession.run` takes it; in f16 as `lad-edge build` rounds it."""
    import onnxruntime
    from lad_edge.export.half import to_half  # type: ignore[import-not-found,unused-ignore]

    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    network = bytes(opened.sources()[GRAPH][1])
    session = onnxruntime.InferenceSession(to_half(network) if half else network, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"ONNX Runtime runs it on {session.get_providers()}")

    def maps(tensor: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {"image": tensor})[0][0]
        return found

    return maps


def judge(maps: Maps, opened: bundle.Bundle, picture: np.ndarray) -> float:
    """Picture → score by OpenCV and numpy around the network; the map is made too."""
    contract, parameters = opened.manifest.contract, opened.manifest.parameters
    side, border = contract.size[0], int(str(parameters["border"]))
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)[:, :, ::-1]
    mean, std = (np.array(values, np.float32) for values in (contract.mean, contract.std))
    normal = (small * np.float32(1 / 255) - mean) / std
    raw = maps(np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32))
    levels = opened.calibration("f32").normalisation
    scales = [affine(levels[branch]) for branch in ("structural", "logical")]
    normalised = [np.float32(scale) * m + np.float32(offset) for m, (scale, offset) in zip(raw, scales, strict=True)]
    padded = cv2.copyMakeBorder(sum(normalised) / 2, *(border,) * 4, cv2.BORDER_CONSTANT)
    return float(cv2.resize(padded, (side, side), interpolation=cv2.INTER_LINEAR).max())


def raw_map_error(maps: Maps, opened: bundle.Bundle) -> float:
    """Largest difference from the CPU's engine on a random picture, over the largest value."""
    with Inspector(opened, Options(precision="f32")) as inspector:
        buffers = bare_buffers(inspector)
        buffers["image"][...] = np.random.default_rng(0).standard_normal(buffers["image"].shape, np.float32)
        inspector.runtime.run(GRAPH, **buffers)
        return relative_error(maps(buffers["image"]), buffers["maps"][0])


def _peers(opened: bundle.Bundle, work: Path, device: str) -> dict[str, Callable[[], Maps]]:
    torch = {
        f"torch {'compiled' if compiled else 'eager'} {'f16' if half else 'f32'}": partial(
            by_torch, opened.manifest.name, work, device, half=half, compiled=compiled
        )
        for compiled in (False, True)
        for half in (False, True)
    }
    runtimes = {
        f"onnxruntime {'f16' if half else 'f32'}": partial(by_onnxruntime, opened, device, half=half)
        for half in (False, True)
    }
    return {**torch, **runtimes}


if __name__ == "__main__":
    main()
