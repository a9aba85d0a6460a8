"""Which GPU, driver, clocks and versions the figures belong to: python -m benchmarks.gpu_facts --json OUT --work FOLDER.

The driver's own tool says most of it, or PyTorch, where a Jetson has no such tool.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata

from benchmarks.gpu_step import NoGpuError, Step, leave, step_arguments

ASKED = (
    "name",
    "compute_cap",
    "driver_version",
    "memory.total",
    "persistence_mode",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "power.limit",
    "temperature.gpu",
)
PACKAGES = (
    *("lad-edge", "torch", "triton", "numpy", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "pycuda"),
    *("tensorrt", "tensorrt-rtx-cu13", "nvidia-cudnn-cu13", "opencv-python", "opencv-python-headless"),
)
TOOLS = ("nvcc", "compute-sanitizer", "nvidia-smi")


def main() -> None:
    """GPU, tools, versions."""
    step = Step(step_arguments(__doc__, "benchmarks.gpu_facts").place)
    step.ask("gpu", gpu)
    step.ask("tools", tools)
    step.ask("versions", versions)
    leave(step)


def gpu() -> dict[str, str]:
    """The first GPU: field → value with its unit, as nvidia-smi says it, or the little that PyTorch knows. Raises NoGpuError."""
    path = shutil.which("nvidia-smi")
    if path is None:
        return _by_torch()
    command = [path, f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise NoGpuError(f"nvidia-smi: {(done.stdout + done.stderr).strip()[:300]}")
    values = (value.strip() for value in done.stdout.splitlines()[0].split(","))
    return dict(zip(ASKED, values, strict=True))


def _by_torch() -> dict[str, str]:
    import torch

    if not torch.cuda.is_available():
        raise NoGpuError("nvidia-smi is not installed, and PyTorch finds no GPU")
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "compute_cap": f"{found.major}.{found.minor}",
        "memory.total": f"{found.total_memory} B",
    }


def tools() -> dict[str, object]:
    """Tool → whether it is there; the toolkit's version."""
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    said = "" if nvcc is None else subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release ([\d.]+)", said)
    return {
        **{tool: (shutil.which(tool) or shutil.which(tool, path="/usr/local/cuda/bin")) is not None for tool in TOOLS},
        "cuda_toolkit": found.group(1) if found else None,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> Mapping[str, str]:
    """Package → version, of those that this Python finds."""
    print(f"{sys.version.split()[0]} at work")
    return {name: metadata.version(name) for name in PACKAGES if _installed(name)}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
