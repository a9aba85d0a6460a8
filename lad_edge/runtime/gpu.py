"""The NVIDIA driver asked directly, without any CUDA package: which GPUs there are, or why there is none."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

ON_GPU = ("tensorrt", "tensorrt_rtx", "onnxruntime_cuda")  # the runtimes whose clocks fall while no part comes
LIBRARY = "libcuda.so.1"
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
_PROBLEMS = {
    100: "the driver finds no GPU; check that it is plugged in and that the container was given it (--gpus all)",
    803: "driver and libcuda are of different versions; reboot after a driver update",
    999: "the driver does not answer; check 'nvidia-smi' and 'dmesg'",
}


@dataclass(frozen=True)
class Gpu:
    """One GPU. compute_capability: such as "8.9"."""

    name: str
    compute_capability: str
    memory_bytes: int


@dataclass(frozen=True)
class Gpus:
    """What the driver says. cuda: newest CUDA that it runs; driver: its version.

    problem: why there is no GPU, with the remedy; broken: there is a driver, but it does not start.
    """

    devices: tuple[Gpu, ...] = ()
    cuda: str | None = None
    driver: str | None = None
    problem: str = ""
    broken: bool = False


def find_gpus() -> Gpus:
    """Ask the driver; a machine without one is an answer, not an error."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError:
        return Gpus(problem=f"no NVIDIA driver ({LIBRARY} is not installed)")
    status = cuda.cuInit(0)
    if status:
        remedy = _PROBLEMS.get(status, "check 'nvidia-smi'")
        problem = f"CUDA does not start (error {status}): {remedy}"
        return Gpus(driver=driver_version(), problem=problem, broken=True)
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    found = tuple(_gpu(cuda, ordinal) for ordinal in range(count.value))
    return Gpus(found, f"{version.value // 1000}.{version.value % 1000 // 10}", driver_version())


def _gpu(cuda: ctypes.CDLL, ordinal: int) -> Gpu:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(100), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    major, minor = (_attribute(cuda, which, device) for which in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR))
    return Gpu(name.value.decode("utf-8", "replace"), f"{major}.{minor}", memory.value)


def _attribute(cuda: ctypes.CDLL, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value


def driver_version(root: Path = Path("/")) -> str | None:
    """Version of the kernel module (desktop, server), or of the Jetson release; None without either."""
    try:
        line = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
        return next((word for word in line.split() if word[0].isdigit() and "." in word), None)
    except (OSError, IndexError):
        pass
    try:
        return (root / "etc/nv_tegra_release").read_text(encoding="utf-8").splitlines()[0].strip("# ")[:200]
    except (OSError, IndexError):
        return None
