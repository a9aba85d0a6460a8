"""Test pictures: the same in each run, in the size, format and rate that the URI asks for, and each with its number."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lad_edge.sources.converted import Converted
from lad_edge.sources.opening import open_source
from lad_edge.sources.pattern import read_number
from lad_edge.sources.source import Source
from lad_edge.values import Frame


def everything(source: Source) -> list[Frame]:
    source.open()
    return list(iter(source.read, None))


@pytest.mark.parametrize(("format_", "shape"), [("mono8", (48, 64)), ("bgr8", (48, 64, 3)), ("rgb8", (48, 64, 3))])
def test_pictures_have_the_size_the_format_and_their_number(format_: str, shape: tuple[int, ...]) -> None:
    source = open_source(f"pattern://64x48?format={format_}&frames=70")
    assert not source.live
    frames = everything(source)
    assert [read_number(np.asarray(frame.image)) for frame in frames] == list(range(1, 71))
    assert {(np.shape(frame.image), frame.pixel_format, frame.source) for frame in frames} == {
        (shape, format_, "pattern")
    }


def test_two_runs_show_the_same_and_two_frames_differ() -> None:
    one, other = (everything(open_source("pattern://64x48?frames=3&seed=7")) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.image, second.image)
    assert np.any(one[0].image != one[1].image)


def test_the_number_survives_compression() -> None:
    image = everything(open_source("pattern://320x240?frames=3"))[2].image
    packed = cv2.imencode(".jpg", np.asarray(image), [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    assert read_number(cv2.imdecode(packed, cv2.IMREAD_COLOR)) == 3


def test_a_rate_is_kept() -> None:
    source = open_source("pattern://64x48?fps=50")
    source.open()
    times = [frame.captured_ns for _ in range(10) if (frame := source.read()) is not None]
    assert times[-1] - times[0] >= 9 * 0.95 / 50 * 1e9


@pytest.mark.parametrize(
    ("name", "first_pixels"),
    [("bayer_rg8", "RG/GB"), ("bayer_bg8", "BG/GR"), ("bayer_gr8", "GR/BG"), ("bayer_gb8", "GB/RG")],
)
def test_a_bayer_pattern_becomes_the_colour_that_it_shows(name: str, first_pixels: str) -> None:
    levels = {"R": 200, "G": 120, "B": 40}
    tile = np.array([[levels[letter] for letter in row] for row in first_pixels.split("/")], np.uint8)
    frame = everything(open_source("pattern://64x48?frames=1&format=mono8"))[0]

    class Bayer:
        name, live, free_running = "bayer", True, True

        def read(self) -> Frame:
            return Frame(0, "1", np.tile(tile, (8, 8)), name_of_format, frame.captured_ns, frame.utc_ns)

    name_of_format = name
    converted = Converted(Bayer(), "bgr8").read()  # type: ignore[arg-type]
    assert converted is not None
    np.testing.assert_array_equal(np.asarray(converted.image)[8, 8], [40, 120, 200])


@pytest.mark.parametrize("pixel_format", ["bayer_rg8", "rgb8", "mono8"])
def test_bytes_that_lost_their_geometry_are_not_made_a_picture_of_one_row(pixel_format: str) -> None:
    """OpenCV takes them for one, and an engine for pictures of any size would judge it."""

    class Cut:
        name, live, free_running = "cut", True, True

        def read(self) -> Frame:
            return Frame(0, "1", np.zeros(999, np.uint8), pixel_format, 0, 0)

    converted = Converted(Cut(), "bgr8").read()  # type: ignore[arg-type]
    assert converted is not None
    assert converted.pixel_format == pixel_format
