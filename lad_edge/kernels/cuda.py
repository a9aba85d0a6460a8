"""Device arrays in, device arrays out: the CUDA twins of the kernels, and which GPUs there are.

`fuse` has the parameters of `lad_edge.kernels.fuse` and, for a stream that must not wait or allocate: `result`, float64
(6,), filled in the order of `Fused`; `workspace`, uint8, at least `fuse_workspace_bytes(...)`; `stream`, a cudaStream_t
as an integer. Every array is a device array (__cuda_array_interface__), C-contiguous.
"""

from __future__ import annotations

from lad_edge.errors import MissingDependencyError

try:
    from lad_edge.kernels._cuda import device_count, device_names, fuse, fuse_workspace_bytes
except ImportError as exc:
    raise MissingDependencyError(
        "the CUDA kernels are not part of this installation; install the CUDA toolkit and rebuild from source with "
        "`LAD_EDGE_CUDA=1 pip install .`"
    ) from exc

__all__ = ["device_count", "device_names", "fuse", "fuse_workspace_bytes"]
