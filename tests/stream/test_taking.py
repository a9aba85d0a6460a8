"""Pictures of single parts from a live source: when they are taken, what ends it, and the folder that keeps them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from scripted import ScriptedSource, Step, frame, lost

from lad_edge.errors import SinkError, SourceError
from lad_edge.images import read_image
from lad_edge.sources.source import fault_now
from lad_edge.stream.taking import KeptPictures, Shutter
from lad_edge.values import Frame, Reason


def _never() -> bool:
    return False


def camera(steps: int = 10_000, period_s: float = 0.005) -> Iterator[Step]:
    """A picture each period; its name is its number."""

    def picture(number: int) -> Frame:
        time.sleep(period_s)
        return frame(tiny.good_picture(number), str(number))

    for number in range(steps):
        yield lambda number=number: picture(number)  # type: ignore[misc]


def test_pictures_are_taken_one_period_apart() -> None:
    with Shutter(ScriptedSource(camera(), live=True), 0.05, stopped=_never) as shutter:
        start_ns = time.monotonic_ns()
        taken = [shutter.take() for _ in range(3)]
    times = [start_ns, *(picture.captured_ns for picture in taken if picture is not None)]
    assert len(times) == 4
    assert min(np.diff(times)) >= 0.05e9


def test_without_a_period_nothing_is_taken_until_a_key_asks() -> None:
    asked = iter([False] * 5)
    with Shutter(ScriptedSource(camera(), live=True), None, stopped=lambda: next(asked, True)) as shutter:
        assert shutter.take() is None


def damaged() -> Frame:
    time.sleep(0.005)
    return fault_now("half", Reason.FRAME_INCOMPLETE, "scripted")


def test_a_damaged_picture_is_passed_over() -> None:
    source = ScriptedSource([*camera(1), *[damaged] * 10, *camera(1000)], live=True)
    with Shutter(source, 0.01, stopped=_never) as shutter:
        taken = shutter.take()
    assert taken is not None
    assert taken.image is not None


def test_a_source_of_damaged_pictures_alone_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lad_edge.stream.taking.SILENT_S", 0.1)
    source = ScriptedSource([damaged] * 1000, live=True)
    with Shutter(source, 0.01, stopped=_never) as shutter, pytest.raises(SourceError, match="has delivered no picture"):
        shutter.take()


def test_a_source_that_is_lost_ends_it_even_if_it_comes_back() -> None:
    steps = [*camera(3), lost(), *camera(50)]
    with (
        Shutter(ScriptedSource(steps, live=True), 10.0, stopped=_never) as shutter,
        pytest.raises(SourceError, match="the cable is out"),
    ):
        shutter.take()


def test_a_source_that_does_not_open_says_why() -> None:
    source = ScriptedSource([], live=True)
    source.open_failures.append("scripted: no such camera")
    with Shutter(source, 1.0, stopped=_never) as shutter, pytest.raises(SourceError, match="no such camera"):
        shutter.take()


def test_a_source_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lad_edge.stream.taking.SILENT_S", 0.1)

    def hang() -> Frame:
        time.sleep(0.6)
        return lost()

    source = ScriptedSource([*camera(2), hang], live=True)
    with Shutter(source, 10.0, stopped=_never) as shutter, pytest.raises(SourceError, match="has delivered no picture"):
        shutter.take()


def test_a_live_source_that_ends_is_an_error() -> None:
    source = ScriptedSource(camera(2), live=True)
    with Shutter(source, 10.0, stopped=_never) as shutter, pytest.raises(SourceError, match="scripted has ended"):
        shutter.take()


def test_kept_pictures_are_lossless_and_numbered_on(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "part.parts"
    first = KeptPictures(folder)
    first.save(tiny.good_picture(0))
    first.save(tiny.good_picture(1, (48, 64)))
    second = KeptPictures(folder)
    assert (first.saved, second.saved, second.next_name) == (2, 0, "part-0003.png")
    assert sorted(path.name for path in folder.iterdir()) == ["part-0001.png", "part-0002.png"]
    np.testing.assert_array_equal(read_image(folder / "part-0001.png").image, tiny.good_picture(0))
    np.testing.assert_array_equal(read_image(folder / "part-0002.png").image, tiny.good_picture(1, (48, 64)))


def test_a_folder_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SinkError, match="choose another folder: --keep"):
        KeptPictures(tmp_path / "file").save(tiny.good_picture(0))


def test_a_picture_that_could_not_be_kept_leaves_nothing_half_written(tmp_path: Path) -> None:
    kept = KeptPictures(tmp_path)
    (tmp_path / kept.next_name).mkdir()
    with pytest.raises(SinkError, match="cannot be written"):
        kept.save(tiny.good_picture(0))
    assert [path.name for path in tmp_path.iterdir()] == [kept.next_name]
    assert kept.saved == 0
