"""What tests of the GPU rooms need of the machine. CI has TensorRT-RTX (extra `dev`) and no GPU: there all of these run."""

from __future__ import annotations

import pytest

from lad_edge.runtime import compiler
from lad_edge.runtime.gpu import find_gpus

needs_rtx = pytest.mark.skipif(
    "tensorrt_rtx" not in compiler.installed(), reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13"
)
needs_no_gpu = pytest.mark.skipif(bool(find_gpus().devices), reason="this machine has a GPU")
