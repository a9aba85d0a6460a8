"""Device arrays in, device arrays out: the CUDA twins of `lad_edge.kernels`, and which GPUs there are.

They mean what the functions of the same names in `lad_edge.kernels` and `lad_edge.kernels.tails` mean, on device arrays
(__cuda_array_interface__) that are C-contiguous. A call returns when its work is enqueued on `stream`, a cudaStream_t as an integer, and
can be captured in a CUDA graph; it allocates nothing. What an engine gives may be float32 or float16. Results lie on the device: `result`,
float64, in the order of `Fused` or `Projected`; `nonfinite`, int64 (1,), is added to, so that one clearing per frame serves all. A
`workspace` is uint8 at a multiple of 256 bytes, with any content, not shared by launches that may overlap. A plan (`MaskedRidge`,
`Preprocess`, `Quantizer`) has constant tables: `prepare` copies them once, outside of a graph, to uint8 memory of the caller. Raises
TypeError for types and layouts, ValueError for sizes, RuntimeError when CUDA refuses a launch.
"""

from __future__ import annotations

from lad_edge.errors import MissingDependencyError

try:
    from lad_edge.kernels._cuda import (
        MaskedRidge,
        Preprocess,
        Quantizer,
        count_nonfinite,
        device_count,
        device_names,
        distance_map,
        fuse,
        fuse_places,
        fuse_workspace_bytes,
        join_branches,
        larger_capped,
        larger_of_regions,
        mask_maps,
        masked_histogram_score,
        masked_histograms,
        modulate,
        project_maps,
        project_workspace_bytes,
        symmetric_kl,
        symmetric_kl_workspace_bytes,
        take_rows,
    )
except ImportError as exc:
    raise MissingDependencyError(
        "the CUDA kernels are not part of this installation; install the CUDA toolkit and rebuild from source with "
        "`LAD_EDGE_CUDA=1 pip install .`"
    ) from exc

__all__ = [
    "MaskedRidge",
    "Preprocess",
    "Quantizer",
    "count_nonfinite",
    "device_count",
    "device_names",
    "distance_map",
    "fuse",
    "fuse_places",
    "fuse_workspace_bytes",
    "join_branches",
    "larger_capped",
    "larger_of_regions",
    "mask_maps",
    "masked_histogram_score",
    "masked_histograms",
    "modulate",
    "project_maps",
    "project_workspace_bytes",
    "symmetric_kl",
    "symmetric_kl_workspace_bytes",
    "take_rows",
]
