"""lad-edge finds logical and structural anomalies on production lines. Importing it is light; engines load on use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lad_edge.inspector import Inspector as Inspector
    from lad_edge.inspector import load as load
    from lad_edge.values import Frame as Frame
    from lad_edge.values import Reason as Reason
    from lad_edge.values import Region as Region
    from lad_edge.values import Result as Result
    from lad_edge.values import Verdict as Verdict

__version__ = "0.1.0"

_HOMES = {
    "Frame": "lad_edge.values",
    "Inspector": "lad_edge.inspector",
    "Reason": "lad_edge.values",
    "Region": "lad_edge.values",
    "Result": "lad_edge.values",
    "Verdict": "lad_edge.values",
    "load": "lad_edge.inspector",
}
__all__ = ["Frame", "Inspector", "Reason", "Region", "Result", "Verdict", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lad_edge' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
