"""An environment beside PyTorch's Python, with lad-edge built for this GPU: python -m benchmarks.gpu_environment --json OUT --work FOLDER.

The environment sees the packages of the Python that makes it (PyTorch among them, which is neither carried nor installed) and gets the
rest from --wheels, or from the package index where there is none. Only the standard library is used.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.gpu_facts import gpu
from benchmarks.gpu_pack import BUILD, ONNXRUNTIME, PYCUDA, RUN, TENSORRT_RTX, TEST, join
from benchmarks.gpu_step import NoGpuError, Step, leave, step_arguments

ROOT = Path(__file__).parent.parent
FOLDER = "environment"  # in the work folder
CUDA_BIN = "/usr/local/cuda/bin"


def main() -> None:
    """What everything needs first; each runtime of the GPU has its own try."""
    wheels = {"type": Path, "help": "folder of gpu_pack, or of wheels; default: the package index"}
    arch = {"help": "compute capability to build for, such as 90; default: that of this GPU"}
    args = step_arguments(__doc__, "benchmarks.gpu_environment", wheels=wheels, arch=arch)
    step = Step(args.place)
    if args.rehearse:
        step.ask("environment", _rehearsed)
        leave(step)
    pip = Pip(args.place.work, args.wheels)
    if step.ask("environment", pip.prepare) is not None:
        with ThreadPoolExecutor(1) as beside:  # the compiler has most to do: the others go on meanwhile
            built = beside.submit(build, pip, args.arch)
            step.ask("pycuda", partial(install_pycuda, pip))
            step.ask("onnxruntime", partial(pip.install, *ONNXRUNTIME))
            step.ask("tensorrt_rtx", partial(pip.install, *TENSORRT_RTX))
            step.ask("lad-edge", built.result)
    leave(step)


def python_of(work: Path) -> Path:
    """The environment's Python."""
    return work / FOLDER / "bin" / "python"


def variables() -> dict[str, str]:
    """Of every process in the environment: CUDA's libraries that came with PyTorch are found, whoever needs them."""
    folders = [str(lib) for packages in _package_folders() for lib in sorted(packages.glob("nvidia/*/lib"))]
    known = [os.environ["LD_LIBRARY_PATH"]] if "LD_LIBRARY_PATH" in os.environ else []
    path = os.pathsep.join([os.environ["PATH"], CUDA_BIN])
    return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": os.pathsep.join([*folders, *known])}


class Pip:
    """The pip of this Python, installing into the environment."""

    def __init__(self, work: Path, wheels: Path | None) -> None:
        self.work, self.wheels, self.python = work, wheels, python_of(work)
        self.source: list[str] = []

    def prepare(self) -> dict[str, object]:
        """Make the environment, join the wheels, and install what everything needs."""
        if not self.python.is_file():
            venv.create(self.work / FOLDER, symlinks=True)
            _let_see(self.work / FOLDER, _package_folders())
        if self.wheels is not None:
            self.source = ["--no-index", "--find-links", str(join(self.wheels.absolute(), self.work / "wheels"))]
        return self.install(*BUILD, *RUN, *TEST)

    def install(self, *packages: str, more: Mapping[str, str] | None = None) -> dict[str, object]:
        """Install what is missing; seconds. more: variables of the process. Raises RuntimeError with pip's last words."""
        began = time.monotonic()
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check", "install"]
        command += ["--quiet", "--no-build-isolation", *self.source, *packages]
        known = {**variables(), **(more or {})}
        done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pip install {' '.join(packages)}: {(done.stdout + done.stderr).strip()[-1500:]}")
        return {"seconds": round(time.monotonic() - began, 1)}


def build(pip: Pip, arch: str | None) -> dict[str, object]:
    """Compile lad-edge in this tree, its CUDA kernels for one architecture."""
    arch = arch or gpu()["compute_cap"].replace(".", "")
    wanted = {"LAD_EDGE_CUDA": "1", "LAD_EDGE_CUDA_ARCHS": arch}
    return {"arch": arch, **pip.install("--no-deps", "--editable", str(ROOT), more=wanted)}


def install_pycuda(pip: Pip) -> dict[str, object]:
    """Compile pycuda against the toolkit and the driver of this machine; it reads its settings from a file in HOME.

    It uses the driver alone: CURAND and the runtime library, which not every toolkit has, are left out. The linker is given the driver
    itself, because toolkits come without their stand-in for it too.
    """
    home = pip.work / "pycuda"
    home.mkdir(parents=True, exist_ok=True)
    link = home / "libcuda.so"
    link.unlink(missing_ok=True)
    link.symlink_to(driver_library())
    settings = {
        "CUDA_ROOT": str(toolkit()),
        "CUDA_INC_DIR": [str(toolkit() / "include")],
        "CUDADRV_LIB_DIR": [str(home)],
        "CUDART_LIBNAME": [],
        "CUDA_ENABLE_CURAND": False,
    }
    lines = "".join(f"{name} = {value!r}\n" for name, value in settings.items())
    (home / ".aksetup-defaults.py").write_text(lines, encoding="utf-8")
    return pip.install(*PYCUDA, more={"HOME": str(home)})


def toolkit() -> Path:
    """Where nvcc says that it lies: the one on PATH may be a wrapper. Raises RuntimeError without nvcc."""
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=CUDA_BIN)
    if nvcc is None:
        raise RuntimeError(f"no nvcc on PATH or in {CUDA_BIN}; install the CUDA toolkit")
    command = [nvcc, "--dryrun", "-x", "cu", os.devnull, "-o", os.devnull]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return Path(re.findall(r"^#\$ TOP=(.+)$", said, re.MULTILINE)[0].strip()).resolve()


def driver_library() -> Path:
    """The file of libcuda that this process loads. Raises OSError without a driver."""
    ctypes.CDLL("libcuda.so.1")
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return Path(next(line.split(maxsplit=5)[5] for line in mapped if "libcuda.so" in line))


def _let_see(folder: Path, packages: Sequence[Path]) -> None:
    """Put folders of packages behind the environment's own."""
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "beside.pth").write_text("".join(f"{path}\n" for path in packages), encoding="utf-8")


def _package_folders() -> list[Path]:
    """Where this Python finds its packages."""
    return [Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def _rehearsed() -> Mapping[str, object]:
    raise NoGpuError("nothing is built in a rehearsal: the Python that runs it has lad-edge")


if __name__ == "__main__":
    main()
