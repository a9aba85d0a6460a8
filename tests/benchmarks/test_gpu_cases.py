"""What a GPU is measured with runs on the host first: the same sources, the same calls, and a result that is checked."""

from __future__ import annotations

import pytest
from cuda_device import HostDevice

from benchmarks.gpu_cases import FILLING, FRAME, Maker, title


@pytest.mark.parametrize("make", FRAME, ids=title)
def test_a_launch_at_the_size_of_a_frame_gives_what_the_cpu_gives(make: Maker) -> None:
    launch = make(HostDevice("forward"))
    with pytest.raises(AssertionError):
        launch.check()  # before anything was written
    launch.enqueue()
    launch.check()
    assert launch.bytes_moved > 0


def test_every_kernel_but_the_smallest_fills_a_gpu_too() -> None:
    names = {make.func.__name__ for make in FRAME}
    assert {make.func.__name__ for make in FILLING} == names - {"masked_ridge"}
    assert len({title(make) for make in (*FRAME, *FILLING)}) == len(FRAME) + len(FILLING)
