"""Gaps in a camera's numbers: counted, over the end of 16 bits too; damaged and late numbers are no gaps."""

from __future__ import annotations

import pytest

from lad_edge.sources.worker.frame_ids import FrameIds


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([7, 8, 9], 0),
        ([7, 9, 12], 3),
        ([65534, 65535, 1, 2], 0),
        ([65534, 2], 2),
        ([65535, 65536, 65538], 1),  # GigE Vision 2 and USB3 Vision count in 64 bits
        ([65403, 0, 65404], 0),  # the packet with the number was lost
        ([0, 0, 5, 6], 0),
        ([10, 9, 11], 0),  # overtaken
        ([500, 1, 2], 0),  # the camera began anew
        ([500, 1, 3], 1),
    ],
)
def test_frames_that_did_not_come_are_counted(numbers: list[int], missing: int) -> None:
    ids = FrameIds()
    assert sum(ids.missing_before(number) for number in numbers) == missing
