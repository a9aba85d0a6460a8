"""The environment of a GPU check stands beside the Python that makes it, and takes from a folder of wheels alone what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_environment import Pip, python_of, toolkit, variables
from benchmarks.gpu_facts import tools

WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with one wheel, of a package that nobody else has."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    files = {"lad_brought.py": "VALUE = 7\n", "lad_brought-1.0.dist-info/WHEEL": WHEEL}
    files["lad_brought-1.0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: lad-brought\nVersion: 1.0\n"
    with zipfile.ZipFile(folder / "lad_brought-1.0-py3-none-any.whl", "w") as wheel:
        record = "".join(f"{name},,\n" for name in files) + "lad_brought-1.0.dist-info/RECORD,,\n"
        for name, text in {**files, "lad_brought-1.0.dist-info/RECORD": record}.items():
            wheel.writestr(name, text)
    return folder


def answer(python: Path, code: str) -> str:
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_it_has_what_is_beside_it_and_what_was_brought(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu_environment.RUN", ("numpy", "lad-brought"))
    for name in ("BUILD", "TEST"):
        monkeypatch.setattr(f"benchmarks.gpu_environment.{name}", ())
    pip = Pip(tmp_path / "work", wheels)
    assert pip.prepare()["seconds"]
    python = python_of(tmp_path / "work")
    assert answer(python, "import numpy, lad_brought; print(numpy.__file__, lad_brought.VALUE)") == f"{np.__file__} 7"
    assert Path(answer(python, "import sys; print(sys.prefix)")) != Path(sys.prefix)
    with pytest.raises(RuntimeError, match=r"pip install lad-edge-left-behind: (.|\n)*No matching distribution"):
        pip.install("lad-edge-left-behind")


def test_cudas_libraries_beside_torch_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lib = tmp_path / "site-packages" / "nvidia" / "cu13" / "lib"
    lib.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site-packages")])
    monkeypatch.setenv("LD_LIBRARY_PATH", "mine")
    assert variables()["LD_LIBRARY_PATH"] == f"{lib}:mine"


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_the_toolkit_is_where_its_compiler_lies() -> None:
    assert (toolkit() / "include" / "cuda.h").is_file()
    assert str(tools()["cuda_toolkit"]).split(".")[0].isdecimal()
