"""What the engines need to know of this CPU: how many real cores this process may use, and whether bf16 is native."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 flags; "bf16" is the aarch64 feature


def physical_cores() -> int:
    """Return the number of physical cores in this process's affinity mask: hyper-threads slow dense kernels down."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return len({_siblings(cpu) for cpu in allowed})


def _siblings(cpu: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return str(cpu)


def has_native_bf16(cpuinfo: str | None = None) -> bool:
    """Return whether the CPU multiplies bf16 itself: engines also report bf16 where they only imitate it on AVX-512.

    cpuinfo: text of /proc/cpuinfo; None = this machine's. A machine without that file counts as "no".
    """
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
    flags = next((line for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))), "")
    return not _NATIVE_BF16.isdisjoint(flags.split())


def device_name() -> str:
    """Return the CPU's name as the kernel states it, with the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{model} ({os.uname().machine})"


def return_free_memory() -> None:
    """Give freed heap pages back to the system: reading a model frees blocks as large as the model, which glibc keeps.

    EfficientAD-S, OpenVINO bf16: 190 instead of 282 MB resident. Does nothing where there is no glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
