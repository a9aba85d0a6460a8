"""The tests of the lines share the kernels' host device with the tests of the kernels."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "kernels"))
