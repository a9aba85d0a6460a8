"""One question: several ways to compute the same thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import _cpu

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Contestant:
    """One way. expect: takes what `call` returns, raises AssertionError where it is wrong; note: printed beside its time."""

    call: Callable[[], Any]
    expect: Callable[[Any], None]
    note: str = ""

    def check(self, name: str) -> None:
        """Compute it once. Raises AssertionError for a wrong result, with the name."""
        try:
            self.expect(self.call())
        except AssertionError as exc:
            raise AssertionError(f"{name}: {exc}") from exc


@dataclass(frozen=True)
class Case:
    """The ways by name, ours first. bytes_moved: what has to be read and written."""

    title: str
    contestants: Mapping[str, Contestant]
    bytes_moved: int = 0

    def check(self) -> None:
        """Let each contestant compute it once. Raises AssertionError for a wrong result, with the contestant's name."""
        for name, contestant in self.contestants.items():
            contestant.check(f"{self.title}: {name}")


def close_to(wanted: NDArray[Any] | Sequence[float], atol: float) -> Callable[[NDArray[Any] | Sequence[float]], None]:
    """Every value within `atol` of the wanted one."""
    return lambda got: np.testing.assert_allclose(got, wanted, rtol=0, atol=atol)


def on_each_isa(call: Callable[[], Any], expect: Callable[[Any], None]) -> dict[str, Contestant]:
    """One contestant for each instruction set, the widest (the default) first."""

    def pinned(isa: str) -> Callable[[], Any]:
        def run() -> Any:
            _cpu.use_isa(isa)
            return call()

        return run

    return {f"native {isa}": Contestant(pinned(isa), expect) for isa in reversed(_cpu.isas())}
