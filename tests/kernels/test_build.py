"""What the native build must and must not be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lad_edge.kernels import Fused, LabelledRegion, _cpu, distance_map
from lad_edge.values import Region

ROOT = Path(__file__).parents[2]


def strings_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize(
    "flag", ["-ffast-math", "-Ofast", "-ffinite-math-only", "-funsafe-math-optimizations", "--use_fast_math"]
)
def test_no_flag_lets_the_compiler_forget_nan(flag: str) -> None:
    assert flag not in strings_of(ROOT / "setup.py")


def test_nan_is_seen_by_the_compiled_code(isa: str) -> None:
    """The behaviour, whatever flags the environment added."""
    a, b = np.full((1, 1, 97), np.nan, np.float32), np.zeros((1, 1, 97), np.float32)
    assert distance_map(a, b, out=np.empty((1, 97), np.float32)) == 97


def test_only_bindings_know_python() -> None:
    for path in [
        *(ROOT / "csrc/cpu").iterdir(),
        *(ROOT / "csrc/cuda").iterdir(),
        *(ROOT / "csrc/include/lad").iterdir(),
    ]:
        assert not re.search(r"pybind11|Python\.h", path.read_text(encoding="utf-8")), path


def test_instruction_sets_can_be_pinned_and_wrong_ones_are_refused() -> None:
    assert _cpu.isas()[0] == "portable"
    assert _cpu.isa() == _cpu.isas()[-1]
    with pytest.raises(ValueError, match=r"expected one of .*portable.*, got 'mmx'"):
        _cpu.use_isa("mmx")
    assert _cpu.isa() == _cpu.isas()[-1]


def test_missing_native_code_says_how_to_build_it() -> None:
    code = "import sys; sys.modules['lad_edge.kernels._cpu'] = None\nimport lad_edge.kernels"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install -e ." in done.stderr.splitlines()[-1]


def test_value_types_agree_on_names() -> None:
    assert LabelledRegion._fields == tuple(Region.__dataclass_fields__)
    assert Fused._fields == ("score", "y_px", "x_px", "structural", "logical", "nonfinite")
