"""How the native modules are compiled; everything else stands in pyproject.toml.

LAD_EDGE_CUDA=auto|0|1   build lad_edge.kernels._cuda where nvcc is (auto, the default), never, or fail without nvcc
LAD_EDGE_CUDA_ARCHS      compute capabilities to build for, for example "87" on a Jetson Orin or "89;120"; "release" for
                         all that a wheel should have; by default one of each generation
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from Cython.Build import cythonize
from pybind11 import get_include as pybind11_include
from pybind11.setup_helpers import ParallelCompile
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

# Never -ffast-math: it deletes the NaN checks. No fused multiply-add: results are the same on every processor.
CXX_FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    # Without this GCC 12 leaves out vzeroupper behind some calls, and the caller's SSE code runs up to 5 times slower.
    "-fno-ipa-ra",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
]
CUDA_SOURCES = sorted(Path("csrc/cuda").glob("*.cu"))
# Turing, Ampere, Ada (which runs the code of Ampere), Hopper, Blackwell; 87 and 110 are Jetson Orin and Thor, which run no
# code of other GPUs. nvcc's own list decides which of them it knows. Later GPUs compile the PTX of the newest at first use,
# those between them that of the oldest.
CUDA_ARCHS = ("75", "80", "87", "90", "120")
RELEASE_ARCHS = ("75", "80", "86", "87", "89", "90", "100", "110", "120")


class CudaToolkit(NamedTuple):
    """Where nvcc says that its toolkit lies."""

    nvcc: str
    include_dirs: list[str]
    library_dirs: list[str]


def find_cuda() -> CudaToolkit | None:
    """The toolkit to build with, or None for a build without CUDA."""
    wanted = os.environ.get("LAD_EDGE_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        raise SystemExit(f"LAD_EDGE_CUDA: expected auto, 0 or 1, got {wanted!r}")
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if wanted == "0" or (nvcc is None and wanted == "auto"):
        return None
    if nvcc is None:
        raise SystemExit(
            "LAD_EDGE_CUDA=1: no nvcc on PATH or in /usr/local/cuda/bin; install the CUDA toolkit or unset it"
        )
    return ask_toolkit(nvcc)


def ask_toolkit(nvcc: str) -> CudaToolkit:
    """Include and library folders from `nvcc --dryrun`: the nvcc on PATH may be a wrapper that lies elsewhere."""
    command = [nvcc, "--dryrun", "-x", "cu", os.devnull, "-o", os.devnull]
    talk = subprocess.run(command, capture_output=True, text=True, check=True).stderr  # noqa: S603  the builder's nvcc
    top = Path(re.findall(r"^#\$ TOP=(.+)$", talk, re.MULTILINE)[0].strip()).resolve()
    named_libraries = re.findall(r'-L"?([^"\s]+)', talk)
    folders = [*named_libraries, str(top / "lib64"), str(top / "lib")]
    includes = [*re.findall(r'"-I([^"]+)"', talk), str(top / "include")]
    return CudaToolkit(
        nvcc,
        [path for path in includes if (Path(path) / "cuda_runtime.h").is_file()][:1],
        [path for path in folders if (Path(path) / "libcudart_static.a").is_file()][:1],
    )


def architectures(nvcc: str) -> list[str]:
    """Compute capabilities to compile for, oldest first."""
    asked = os.environ.get("LAD_EDGE_CUDA_ARCHS")
    if asked and asked != "release":
        return [arch for arch in re.split(r"[;, ]+", asked) if arch]
    command = [nvcc, "--list-gpu-arch"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603  the builder's nvcc
    known = set(re.findall(r"compute_(\d+)\b", listed))
    return [arch for arch in (RELEASE_ARCHS if asked else CUDA_ARCHS) if arch in known]


def architecture_flags(archs: list[str]) -> list[str]:
    """Machine code for each architecture, and PTX of the first and the last for GPUs that are not among them."""
    machine_code = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    return [
        *machine_code,
        *(f"-gencode=arch=compute_{arch},code=compute_{arch}" for arch in sorted({archs[0], archs[-1]})),
    ]


class BuildNative(build_ext):
    """build_ext that also takes the .cu files of an extension to nvcc."""

    def build_extension(self, ext: Extension) -> None:
        """Compile one extension."""
        if ext.name.endswith("._cuda"):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                ext.extra_objects = list(pool.map(lambda source: self.compile_cuda(CUDA, source), CUDA_SOURCES))
        super().build_extension(ext)

    def compile_cuda(self, cuda: CudaToolkit, source: Path) -> str:
        """Compile one .cu file unless that is done; returns the object file."""
        archs = architectures(cuda.nvcc)
        target = Path(self.build_temp, "_".join(archs), source).with_suffix(".o")
        headers = [str(path) for pattern in ("*.hpp", "*.cuh") for path in Path("csrc").rglob(pattern)]
        if not newer_group([str(source), "setup.py", *headers], str(target)):
            return str(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        host = ",".join(["-fPIC", "-fvisibility=hidden", "-ffp-contract=off"])
        flags = ["-std=c++17", "-O3", "-fmad=false", "-Icsrc/include", "-Xcompiler", host, "--threads", "0"]
        command = [
            cuda.nvcc,
            "-c",
            str(source),
            "-o",
            str(target),
            *flags,
            *architecture_flags(archs),
        ]
        self.announce(" ".join(command), level=logging.INFO)
        subprocess.run(command, check=True)  # noqa: S603  the builder's nvcc
        return str(target)


def cpu_extension() -> Extension:
    """The kernels for every processor; versions for wider vectors are inside."""
    sources = [*Path("csrc/cpu").glob("*.cpp"), *Path("csrc/bindings").glob("cpu*.cpp")]
    return Extension(
        "lad_edge.kernels._cpu",
        sources=sorted(str(path) for path in sources),
        include_dirs=["csrc/include", "csrc/bindings", pybind11_include()],
        depends=sorted(str(path) for path in Path("csrc").rglob("*.hpp")),
        extra_compile_args=CXX_FLAGS,
        language="c++",
    )


def cuda_extension(cuda: CudaToolkit) -> Extension:
    """The kernels for NVIDIA GPUs; the runtime library is linked in, the driver is looked for at run time."""
    return Extension(
        "lad_edge.kernels._cuda",
        sources=sorted(str(path) for path in Path("csrc/bindings").glob("cuda*.cpp")),
        include_dirs=["csrc/include", "csrc/bindings", pybind11_include(), *cuda.include_dirs],
        library_dirs=cuda.library_dirs,
        libraries=["cudart_static", "rt", "pthread", "dl"],
        depends=sorted(str(path) for pattern in ("*.hpp", "*.cu", "*.cuh") for path in Path("csrc").rglob(pattern)),
        extra_compile_args=CXX_FLAGS,
        language="c++",
    )


def cython_extensions() -> list[Extension]:
    """One module for each .pyx file of the package."""
    modules = [
        Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=["-O3", "-g0"])
        for path in sorted(Path("lad_edge").rglob("*.pyx"))
    ]
    return cythonize(modules, build_dir="build/cython", language_level=3) if modules else []


CUDA = find_cuda() if CUDA_SOURCES else None
ParallelCompile().install()  # one compiler for each core

setup(
    ext_modules=[cpu_extension(), *cython_extensions(), *([cuda_extension(CUDA)] if CUDA else [])],
    cmdclass={"build_ext": BuildNative},
)
