"""Fixtures of the kernel tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cuda_device import ORDERS, HostDevice, open_device

from lad_edge.kernels import _cpu


@pytest.fixture(params=_cpu.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once on each instruction set that this processor has."""
    before = _cpu.isa()
    _cpu.use_isa(request.param)
    yield request.param
    _cpu.use_isa(before)


@pytest.fixture(params=[*ORDERS, pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> HostDevice:
    """Runs the test with the CUDA kernels on the host, in every order of their threads, and on a GPU if one is here."""
    return open_device(request.param)
