"""What `benchmarks.kernels` measures is right, without the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from benchmarks.cases import CASES
from benchmarks.cases.case import Case, Contestant, close_to
from lad_edge.kernels import _cpu


@pytest.fixture(autouse=True)
def _widest_isa_afterwards() -> Iterator[None]:
    yield
    _cpu.use_isa(_cpu.isas()[-1])


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_every_contestant_computes_what_the_reference_says(make: Callable[[], Case]) -> None:
    case = make()
    assert next(iter(case.contestants)).startswith("native")
    case.check()


def test_a_wrong_result_is_found_and_named() -> None:
    right, wrong = (Contestant(lambda value=value: [value], close_to([1.0], 0.1)) for value in (1.05, 1.2))
    with pytest.raises(AssertionError, match="title: fast: "):
        Case("title", {"native": right, "fast": wrong}).check()
