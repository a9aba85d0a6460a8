"""An environment beside PyTorch's Python, with lad-edge built for this GPU: python -m benchmarks.gpu_environment --json OUT --work FOLDER.

The environment sees the packages of the Python that makes it (PyTorch among them, which is neither carried nor installed) and gets the
rest from --wheels, or from the package index where there is none. Only the standard library is used.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.gpu_facts import gpu
from benchmarks.gpu_pack import BUILD, ONNXRUNTIME, PYCUDA, RUN, TENSORRT_RTX, TEST, join
from benchmarks.gpu_step import NoGpuError, Place, Step, leave, step_arguments

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
    pip = Pip(args.place, args.wheels)
    step.ask("environment", partial(pip.install, *BUILD, *RUN, *TEST))
    step.ask("lad-edge", partial(build, pip, args.arch))
    step.ask("pycuda", partial(pip.install, *PYCUDA))
    step.ask("onnxruntime", partial(pip.install, *ONNXRUNTIME))
    step.ask("tensorrt_rtx", partial(pip.install, *TENSORRT_RTX))
    leave(step)


def python_of(work: Path) -> Path:
    """The environment's Python."""
    return work / FOLDER / "bin" / "python"


class Pip:
    """The pip of this Python, installing into the environment, which is made first."""

    def __init__(self, place: Place, wheels: Path | None) -> None:
        python = python_of(place.work)
        if not python.is_file():
            venv.create(place.work / FOLDER, symlinks=True)
            _let_see(place.work / FOLDER, _package_folders())
        found = None if wheels is None else join(wheels.absolute(), place.work / "wheels")
        source = [] if found is None else ["--no-index", "--find-links", str(found)]
        self.command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
        self.command += ["--quiet", "--no-build-isolation", *source]
        self.variables = {**os.environ, "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"], CUDA_BIN])}

    def install(self, *packages: str, variables: Mapping[str, str] | None = None) -> dict[str, object]:
        """Install what is missing; seconds. Raises RuntimeError with pip's last words."""
        began = time.monotonic()
        command, known = [*self.command, *packages], {**self.variables, **(variables or {})}
        done = subprocess.run(command, env=known, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pip install {' '.join(packages)}: {(done.stdout + done.stderr).strip()[-1500:]}")
        return {"seconds": round(time.monotonic() - began, 1)}


def build(pip: Pip, arch: str | None) -> dict[str, object]:
    """Compile lad-edge in this tree, its CUDA kernels for one architecture."""
    arch = arch or gpu()["compute_cap"].replace(".", "")
    variables = {"LAD_EDGE_CUDA": "1", "LAD_EDGE_CUDA_ARCHS": arch}
    return {"arch": arch, **pip.install("--no-deps", "--editable", str(ROOT), variables=variables)}


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
