"""The CUDA module imports anywhere and refuses wrong arrays before it enqueues anything; what it computes: test_cuda_*.py."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

cuda = pytest.importorskip("lad_edge.kernels._cuda", reason="built without nvcc")
kernels = pytest.importorskip("lad_edge.kernels.cuda", reason="built without nvcc")


@dataclass
class Pretended:
    """A device array in form only: enough for the checks, which come before any launch."""

    shape: tuple[int, ...]
    typestr: str
    strides: tuple[int, ...] | None = None
    read_only: bool = False

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        data = (4096, self.read_only)
        return {"shape": self.shape, "typestr": self.typestr, "strides": self.strides, "data": data, "version": 3}


def arrays(typestr: str, **shapes: tuple[int, ...]) -> dict[str, Pretended]:
    return {name: Pretended(shape, typestr) for name, shape in shapes.items()}


COUNT = arrays("<i8", nonfinite=(1,))
ROOM = arrays("|u1", workspace=(1 << 16,))
MASKED = arrays("<u2", codes=(2, 40)) | arrays("<u4", masks=(3, 2))
FUSED = arrays("<f4", structural=(5, 6), logical=(5, 6)) | arrays("<f8", result=(6,)) | {"size": (20, 30)} | ROOM
TAIL = {"border": 4, "border_mode": "zero"}
# Arguments that each function takes, `stream` left out.
RIGHT: dict[str, dict[str, Any]] = {
    "count_nonfinite": arrays("<f4", values=(7,)) | COUNT,
    "distance_map": arrays("<f4", a=(3, 4, 5), b=(3, 4, 5), out=(4, 5)) | COUNT,
    "fuse": FUSED | TAIL | {"scale": (30.0, 20.0), "offset": (-0.1, -0.2), "sigmoid": False},
    "fuse_places": FUSED | TAIL | arrays("<f4", places=(2, 2, 5, 6)),
    "project_maps": {"maps": [Pretended((4, 5), "<f4")], "rows": [Pretended((8, 4), "<f4")]}
    | {"columns": [Pretended((9, 5), "<f4")], "weights": [1.0], "constant": 0.0}
    | arrays("<f4", out=(8, 9))
    | arrays("<f8", result=(4,))
    | ROOM,
    "masked_histograms": MASKED | arrays("<u2", out=(3, 2, 9)) | {"entries": 9},
    "masked_histogram_score": MASKED | arrays("<f4", logits=(3, 2, 9), out=(3,)) | COUNT,
    "take_rows": arrays("<f4", table=(5, 3), out=(40, 3)) | arrays("<u2", codes=(40,)),
    "modulate": arrays("<f4", error=(5, 5), divergence=(25,), out=(5, 5)) | {"from_largest": True},
    "larger_of_regions": arrays("<f4", fine=(6, 6), coarse=(3, 3), out=(6, 6)) | {"scales": (1.0, 2.0)},
    "mask_maps": arrays("<f4", distances=(5, 5), scores=(3,), means=(3,), scales=(3,), shares=(3, 25))
    | arrays("<f4", roots=(5, 5), heat=(5, 5), mean_deviation=(1,))
    | {"channels": 4},
    "join_branches": arrays("<f8", peak=(4,), scores=(3,))
    | arrays("<f4", mean_deviation=(1,), constants=(2,), most=(2,))
    | {"scale": (1.0, 1.0), "offset": (0.0, 0.0), "drawn_offset": (0.0, 0.0)},
    "larger_capped": arrays("<f4", first=(5, 6), second=(5, 6), most=(2,), out=(5, 6)),
    "symmetric_kl": arrays("<f4", queries=(25, 16), keys=(25, 16), sigmas=(25, 4), out=(25,))
    | {"heads": 2, "side": 5, "weight": 1.0}
    | COUNT
    | ROOM,
}


def test_devices_are_named() -> None:
    assert cuda.device_count() == len(cuda.device_names())
    assert all(cuda.device_names())


def test_no_visible_device_is_no_error() -> None:
    code = "from lad_edge.kernels import _cuda; print(_cuda.device_count(), _cuda.device_names())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"CUDA_VISIBLE_DEVICES": "-1"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0 []"


def test_workspace_grows_with_the_sizes() -> None:
    small = cuda.fuse_workspace_bytes(size=(256, 256))
    assert 0 < small < cuda.fuse_workspace_bytes(size=(1024, 1280))


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("fuse", {"structural": np.zeros((5, 6), np.float32)}, TypeError, "__cuda_array_interface__, got ndarray"),
        ("fuse", {"structural": Pretended((5, 6), "<f8")}, TypeError, "structural: .*<f4 or <f2, got <f8"),
        ("fuse", {"logical": Pretended((5, 6), "<f4", strides=(48, 8))}, TypeError, "logical: expected a C-contiguous"),
        ("fuse", {"logical": Pretended((5, 6), "<f2")}, TypeError, "logical: .*<f4, got <f2"),
        ("fuse", {"logical": Pretended((6, 5), "<f4")}, ValueError, "one shape"),
        ("fuse", {"out": Pretended((20, 31), "<f4")}, ValueError, r"out: expected shape \(20, 30\)"),
        ("fuse", {"out": Pretended((20, 30), "<f4", read_only=True)}, TypeError, "writable"),
        ("fuse", {"result": Pretended((5,), "<f8")}, ValueError, "result"),
        ("fuse", {"workspace": Pretended((16,), "|u1")}, ValueError, "workspace: expected .* bytes or more"),
        ("fuse", {"border_mode": "wrap"}, ValueError, "border_mode"),
        ("fuse_places", {"places": Pretended((2, 5, 6), "<f4")}, ValueError, r"places: expected shape \(2, 2, 5, 6\)"),
        ("count_nonfinite", {"values": Pretended((0,), "<f4")}, ValueError, "values: expected at least one"),
        ("count_nonfinite", {"nonfinite": Pretended((1,), "<i4")}, TypeError, "nonfinite: .*<i8, got <i4"),
        ("distance_map", {"b": Pretended((3, 5, 4), "<f4")}, ValueError, r"b: expected shape \(3, 4, 5\)"),
        ("distance_map", {"b": Pretended((3, 4, 5), "<f2")}, TypeError, "b: .*<f4, got <f2"),
        ("distance_map", {"cosine": -1.0}, ValueError, "cosine"),
        ("project_maps", {"weights": []}, ValueError, "the same number of each"),
        ("project_maps", {"constant": float("inf")}, ValueError, "constant: expected a finite"),
        ("project_maps", {"constant": None}, TypeError, "real number"),
        ("project_maps", {"constant": Pretended((2,), "<f4")}, ValueError, "constant: expected a number or shape"),
        ("project_maps", {"maps": [Pretended((4, 6), "<f4")]}, ValueError, r"columns\[0\]: expected shape \(9, 6\)"),
        ("project_maps", {"rows": [Pretended((8, 4), "<f2")]}, TypeError, r"rows\[0\]: .*<f4, got <f2"),
        ("masked_histograms", {"codes": Pretended((2, 40), "<i4")}, TypeError, "codes: .*<u2, got <i4"),
        ("masked_histograms", {"masks": Pretended((3, 3), "<u4")}, ValueError, r"masks: expected shape \(masks, 2\)"),
        ("masked_histograms", {"entries": 0}, ValueError, "1 to 65535 entries"),
        ("masked_histogram_score", {"logits": Pretended((3, 1, 9), "<f4")}, ValueError, "logits: expected shape"),
        ("symmetric_kl", {"heads": 3}, ValueError, "heads: expected a divisor of 16"),
        ("take_rows", {"codes": Pretended((40,), "<i4")}, TypeError, "codes: .*<u2, got <i4"),
        ("take_rows", {"out": Pretended((40, 4), "<f4")}, ValueError, r"out: expected shape \(40, 3\)"),
        ("modulate", {"divergence": Pretended((24,), "<f4")}, ValueError, "divergence: expected 25 values"),
        ("larger_of_regions", {"fine": Pretended((5, 5), "<f4")}, ValueError, "side even"),
        ("larger_of_regions", {"coarse": Pretended((2, 2), "<f4")}, ValueError, r"coarse: expected shape \(3, 3\)"),
        ("mask_maps", {"shares": Pretended((3, 24), "<f4")}, ValueError, r"shares: expected shape \(3, 25\)"),
        ("mask_maps", {"means": Pretended((4,), "<f4")}, ValueError, "means: expected 3 values"),
        ("join_branches", {"scale": (float("nan"), 1.0)}, ValueError, "scale: expected finite"),
        ("join_branches", {"peak": Pretended((4,), "<f4")}, TypeError, "peak: .*<f8, got <f4"),
        ("larger_capped", {"most": Pretended((3,), "<f4")}, ValueError, "most: expected 2 values"),
        ("larger_capped", {"out": Pretended((5, 6), "<f4", read_only=True)}, TypeError, "out: expected a writable"),
    ],
)
def test_wrong_arguments_are_refused_before_any_launch(
    name: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(cuda, name)(**{**RIGHT[name], **change}, stream=0)


def test_every_function_of_the_module_is_offered() -> None:
    assert set(kernels.__all__) == {name for name in dir(cuda) if not name.startswith("_")}


@pytest.mark.skipif(cuda.device_count() > 0, reason="a GPU is here")
@pytest.mark.parametrize("name", RIGHT)
def test_launch_without_a_gpu_says_so(name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"{name.removesuffix('_places')}.*: CUDA error"):
        getattr(cuda, name)(**RIGHT[name], stream=0)


@pytest.mark.skipif(cuda.device_count() > 0, reason="a GPU is here")
def test_tables_without_a_gpu_say_so() -> None:
    plan = cuda.Preprocess((8, 8, 3), (4, 4), swap_rb=True, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(RuntimeError, match="prepare: CUDA error"):
        plan.prepare(Pretended((plan.table_bytes,), "|u1"), stream=0)
