"""The trials of `lad-edge doctor`: each one uses a part of this machine for real and yields findings."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lad_edge import __version__
from lad_edge.cli.gpu_checks import check_gpus, check_tensorrt
from lad_edge.cli.trial import Finding, trial_finding, trial_graph
from lad_edge.errors import LadEdgeError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OLDEST_OPENCV = (4, 12)
_LOW_DISK_BYTES = 1 << 30


def check_versions() -> Iterator[Finding]:
    """Python and lad-edge."""
    yield Finding("lad-edge", "ok", f"{__version__}, Python {platform.python_version()} at {sys.prefix}")
    has_torch = importlib.util.find_spec("torch") is not None
    detail = "installed" if has_torch else "not installed (only needed to train: pip install 'lad-edge[train]')"
    yield Finding("training extra", "ok", detail)


def check_cpu() -> Iterator[Finding]:
    """Cores and the instruction sets that matter."""
    from lad_edge.runtime.cpu import device_name, has_native_bf16, physical_cores

    bf16 = "native bf16" if has_native_bf16() else "no native bf16"
    yield Finding("cpu", "ok", f"{device_name()}, {physical_cores()} physical cores for this process, {bf16}")


def check_opencv() -> Iterator[Finding]:
    """Version, a picture encoded and decoded, and video support."""
    try:
        import cv2
    except ImportError as exc:
        remedy = "apt install libgl1 libglib2.0-0, or: pip install opencv-python-headless (instead of opencv-python)"
        yield Finding("opencv", "fail", str(exc), remedy)
        return
    if tuple(map(int, cv2.__version__.split(".")[:2])) < _OLDEST_OPENCV:
        remedy = "older ones fill a truncated JPEG with the previous picture: pip install 'opencv-python>=4.12'"
        yield Finding("opencv", "fail", cv2.__version__, remedy)
        return
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    decoded = cv2.imdecode(cv2.imencode(".png", picture)[1], cv2.IMREAD_UNCHANGED)
    if decoded is None or not np.array_equal(decoded, picture):
        yield Finding("opencv", "fail", f"{cv2.__version__}: a PNG comes back changed", "pip install -U opencv-python")
        return
    names = {cv2.videoio_registry.getBackendName(backend) for backend in cv2.videoio_registry.getBackends()}
    missing = [name for name in ("FFMPEG", "V4L2") if name not in names]
    detail = f"{cv2.__version__}, PNG and JPEG, " + (
        f"without {', '.join(missing)}" if missing else "video and cameras"
    )
    remedy = "use the opencv-python wheel of PyPI" if missing else ""
    yield Finding("opencv", "warn" if missing else "ok", detail, remedy)


def check_runtimes() -> Iterator[Finding]:
    """A small network on each engine at each precision, compared with numpy."""
    from lad_edge.runtime import RUNTIMES, default_runtime

    default = default_runtime()
    for name in RUNTIMES:
        yield from _try_precisions(name, ", the default here" if name == default else "")


def check_kernels() -> Iterator[Finding]:
    """The native kernels against their meaning in numpy."""
    from lad_edge.kernels import Preprocess, fuse, reference

    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (97, 131, 3), np.uint8)
    pixels, mean, std = np.empty((3, 33, 65), np.float32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    Preprocess(image.shape, (33, 65), swap_rb=True, mean=mean, std=std)(image, pixels)
    meant = reference.preprocess(image, (33, 65), swap_rb=True, mean=mean, std=std)
    maps, fused = rng.random((2, 17, 17), np.float32), np.empty((65, 97), np.float32)
    scale, offset, size = (1.0, 2.0), (0.0, -0.1), (65, 97)
    fuse(
        maps[0], maps[1], scale=scale, offset=offset, sigmoid=False, border=4, border_mode="zero", size=size, out=fused
    )
    _, meant_map = reference.fuse(
        maps[0], maps[1], scale=scale, offset=offset, sigmoid=False, border=4, border_mode="zero", size=size
    )
    worst = max(float(np.abs(pixels - meant).max()), float(np.abs(fused - meant_map).max()))
    agrees = worst < 1e-4
    remedy = "" if agrees else "the native module does not fit this CPU: pip install --no-binary lad-edge lad-edge"
    yield Finding("kernels", "ok" if agrees else "fail", f"native equals reference to {worst:.1e}", remedy)


def check_cameras() -> Iterator[Finding]:
    """Video devices and the right to use them."""
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        yield Finding("cameras", "warn", "no /dev/video*", "plug in a camera, or use --source FILE|FOLDER|URL")
    for device in devices:
        usable = os.access(device, os.R_OK | os.W_OK)
        remedy = "" if usable else "sudo usermod -aG video $USER, then log in again"
        yield Finding("cameras", "ok" if usable else "fail", f"{device}{'' if usable else ': no permission'}", remedy)


def check_disk() -> Iterator[Finding]:
    """Free space here, and what one durable record costs."""
    free = shutil.disk_usage(".").free
    cost = _sync_ms()
    enough = free >= _LOW_DISK_BYTES
    remedy = "" if enough else "free some space: results and overlays go to the disk"
    if cost is None:
        yield Finding(
            "disk", "warn", f"{free / 2**30:.1f} GiB free; this folder is read-only", "run in a folder of yours"
        )
        return
    detail = f"{free / 2**30:.1f} GiB free here; a record with --sync record costs {cost:.2f} ms"
    yield Finding("disk", "ok" if enough else "warn", detail, remedy)


def check_clock() -> Iterator[Finding]:
    """Whether the labels of records can be believed; the line itself does not need the wall clock."""
    from lad_edge.stream.clock import WallClock, synchronised

    state = {
        True: "synchronised",
        False: "not synchronised",
        None: "the kernel does not say whether it is synchronised",
    }
    remedy = "timedatectl set-ntp true, with a server that this box reaches; without a network set it by hand"
    doubt, known = WallClock().doubt(), synchronised()
    believed = known is not False and not doubt
    yield Finding("clock", "ok" if believed else "warn", doubt or state[known], "" if believed else remedy)


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "lad-edge": check_versions,
    "cpu": check_cpu,
    "opencv": check_opencv,
    "runtimes": check_runtimes,
    "gpu": check_gpus,
    "tensorrt": check_tensorrt,
    "kernels": check_kernels,
    "cameras": check_cameras,
    "disk": check_disk,
    "clock": check_clock,
}


def _try_precisions(name: str, note: str) -> Iterator[Finding]:
    from lad_edge.runtime import RUNTIMES

    try:
        precisions = RUNTIMES[name]().precisions()
    except MissingDependencyError:
        yield Finding(name, "ok", "not installed (optional)")
    except LadEdgeError as exc:
        yield Finding(name, "ok", f"not used here: {exc}")
    else:
        yield from (_try_runtime(name, precision, note) for precision in precisions)


def _try_runtime(name: str, precision: str, note: str) -> Finding:
    from lad_edge.runtime import open_runtime

    start_ns, remedy = time.monotonic_ns(), f"pip install --force-reinstall {name}"
    try:
        with open_runtime(name, {"trial": trial_graph()}, precision=precision) as runtime:
            return trial_finding(runtime, start_ns, remedy, note)
    except LadEdgeError as exc:
        return Finding(name, "fail", f"{precision}: {exc}", remedy)


def _sync_ms() -> float | None:
    """Median of ten durable writes of a record's size in this folder; None when it cannot be written to."""
    try:
        with tempfile.TemporaryFile(dir=".") as file:
            return statistics.median(_one_sync_ms(file.fileno()) for _ in range(10))
    except OSError:
        return None


def _one_sync_ms(fd: int) -> float:
    start_ns = time.monotonic_ns()
    os.write(fd, b"x" * 600)
    os.fdatasync(fd)
    return (time.monotonic_ns() - start_ns) / 1e6
