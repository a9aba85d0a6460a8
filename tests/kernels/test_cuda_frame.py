"""A frame from the camera's bytes to the score, as one sequence on one stream: on a GPU also as a CUDA graph."""

from __future__ import annotations

import numpy as np
from cuda_device import HostDevice
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import DISTANCE_MAP, FUSE_LARGE, PREPROCESS

from lad_edge.kernels import reference

SIZE = (24, 32)
INPUT = {"swap_rb": True, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
TAIL = {"scale": (0.3, 0.2), "offset": (-0.1, -0.2), "sigmoid": False, "border": 0, "border_mode": "zero"}


def test_a_frame_runs_twice_on_the_same_buffers(device: HostDevice) -> None:
    """Preprocess, two distance maps against constant features, fuse: workspaces need no clearing, counts are added up."""
    k, on = device.kernels, {"stream": device.stream}
    rng = np.random.default_rng(0)
    image, features = rng.integers(0, 256, (97, 131, 3), np.uint8), rng.normal(size=(2, 3, *SIZE)).astype(np.float32)
    features[1, 2, 5, 7] = np.nan
    plan = k.Preprocess(image.shape, SIZE, **INPUT)
    plan.prepare(device.workspace(plan.table_bytes), **on)
    frame, tensor = device.put(image), device.empty((3, *SIZE), np.float32)
    branches, maps = [device.put(f) for f in features], [device.empty(SIZE, np.float32) for _ in features]
    fused, result, nonfinite = device.empty((48, 64), np.float32), device.empty((6,), np.float64), device.counter()
    workspace = device.workspace(k.fuse_workspace_bytes(size=(48, 64)))

    def enqueue() -> None:
        plan(frame, tensor, **on)
        for branch, out in zip(branches, maps, strict=True):
            k.distance_map(tensor, branch, out=out, nonfinite=nonfinite, **on)
        k.fuse(maps[0], maps[0], size=(48, 64), out=fused, result=result, workspace=workspace, **TAIL, **on)

    device.run_twice(enqueue)
    expected = reference.preprocess(image, SIZE, **INPUT)
    assert_allclose(device.get(tensor), expected, rtol=PREPROCESS.rtol, atol=PREPROCESS.atol)
    distance = reference.distance_map(device.get(tensor), features[0])
    assert_allclose(device.get(maps[0]), distance, rtol=DISTANCE_MAP.rtol)
    assert device.get(nonfinite).tolist() == [2]
    assert_array_equal(np.argwhere(~np.isfinite(device.get(maps[1]))), [[5, 7]])
    small = device.get(maps[0])
    said, full = reference.fuse(small, small, size=(48, 64), **TAIL)
    assert_allclose(device.get(fused), full, rtol=FUSE_LARGE.rtol, atol=FUSE_LARGE.atol * small.max())
    assert_array_equal(device.get(result)[[1, 2, 5]], [said.y_px, said.x_px, 0])
