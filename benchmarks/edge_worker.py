"""Ours and plain OpenVINO as contestants: python -m benchmarks.edge_worker (ours|plain) ENGINE FRAMES PRECISION THREADS."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from benchmarks.contestant import serve

Call = Callable[[np.ndarray], float]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Load, judge, serve."""
    kind, engine, frames, precision, threads = sys.argv[1:]
    pictures = np.load(frames)
    call, about = {"ours": open_ours, "plain": open_plain}[kind](engine, precision, int(threads))
    serve(call, pictures, **about)


def open_ours(engine: str, precision: str, threads: int) -> tuple[Call, dict[str, object]]:
    """The product as its README shows it."""
    import lad_edge

    inspector = lad_edge.load(engine, precision=precision, threads=threads)

    def call(picture: np.ndarray) -> float:
        result = inspector(picture)
        if result.score is None:
            raise RuntimeError(f"a picture was not scored: {result.detail}")
        return result.score

    runtime = inspector.runtime
    return call, {"runtime": f"{runtime.name} {runtime.version}", "precision": runtime.precision}


def open_plain(engine: str, precision: str, threads: int) -> tuple[Call, dict[str, object]]:
    """The least that OpenVINO and OpenCV need for raw maps: no checks, no calibration, no antialias, no verdict."""
    import cv2
    import openvino

    cv2.setNumThreads(1)
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    model = core.read_model(engine)
    side = int(model.input(0).shape[-1])
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    gain = (1 / (255 * np.array(STD))).astype(np.float32)
    bias = (-np.array(MEAN) / STD).astype(np.float32)

    def call(picture: np.ndarray) -> float:
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR)[:, :, ::-1] * gain + bias
        maps = request.infer(
            np.ascontiguousarray(small.transpose(2, 0, 1)[None]), share_inputs=True, share_outputs=True
        )
        return float(maps[0].max())

    return call, {"runtime": f"openvino {openvino.__version__.split('-', 1)[0]}", "precision": precision}


if __name__ == "__main__":
    main()
