"""A folder into which others write: each file once, when it is whole, in order; half a file is never a picture."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from watching import watching

from lad_edge.errors import SourceError
from lad_edge.sources.opening import open_source
from lad_edge.values import Reason

PNG = cv2.imencode(".png", tiny.good_picture(1))[1].tobytes()


def test_a_file_that_is_still_written_waits_until_it_is_whole(tmp_path: Path) -> None:
    with watching(f"dir://{tmp_path}?ready=stable&settle=300ms") as watched:
        with (tmp_path / "a.png").open("wb") as file:
            for start in range(0, len(PNG), len(PNG) // 4):
                file.write(PNG[start : start + len(PNG) // 4])
                file.flush()
                assert watched.mailbox.take(0.1) is None
        frame = watched.good()
    assert frame.frame_id == "a.png"
    np.testing.assert_array_equal(frame.image, tiny.good_picture(1))


def test_a_sentinel_says_when_a_file_is_whole(tmp_path: Path) -> None:
    with watching(f"dir://{tmp_path}?ready=sentinel&sentinel=.ok") as watched:
        (tmp_path / "a.png").write_bytes(PNG[:100])
        assert watched.mailbox.take(0.2) is None
        (tmp_path / "a.png").write_bytes(PNG)
        (tmp_path / "a.png.ok").touch()
        assert watched.good().frame_id == "a.png"


@pytest.mark.parametrize("unfinished", [".a.png", "a.png.tmp"])
def test_a_file_that_gets_its_name_last_is_whole_at_once(tmp_path: Path, unfinished: str) -> None:
    with watching(f"dir://{tmp_path}?ready=rename") as watched:
        (tmp_path / unfinished).write_bytes(PNG)
        assert watched.mailbox.take(0.2) is None
        (tmp_path / unfinished).rename(tmp_path / "a.png")
        assert watched.good().frame_id == "a.png"


def test_a_file_that_stays_half_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG[: len(PNG) // 2])
    with watching(f"dir://{tmp_path}?settle=0.1") as watched:
        frame = watched.next(lambda frame: frame.frame_id == "a.png")
    assert (frame.fault, frame.image) == (Reason.FRAME_INCOMPLETE, None)


def test_files_come_once_and_in_the_order_of_their_times(tmp_path: Path) -> None:
    for number, name in enumerate(("c.png", "a.png", "b.png")):
        (tmp_path / name).write_bytes(PNG)
        time_ns = 10**18 + number * 10**9
        __import__("os").utime(tmp_path / name, ns=(time_ns, time_ns))
    with watching(f"dir://{tmp_path}?ready=rename") as watched:
        assert [watched.good().frame_id for _ in range(3)] == ["c.png", "a.png", "b.png"]
        assert watched.mailbox.take(0.2) is None
        (tmp_path / "a.png").write_bytes(cv2.imencode(".png", tiny.good_picture(2))[1].tobytes())
        np.testing.assert_array_equal(watched.good().image, tiny.good_picture(2))


def test_what_lies_there_can_be_skipped(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(PNG)
    with watching(f"dir://{tmp_path}?ready=rename&existing=skip") as watched:
        assert watched.capture.opened.wait(20)
        (tmp_path / "new.png").write_bytes(PNG)
        assert watched.good().frame_id == "new.png"


def test_a_folder_that_vanishes_is_lost_and_found_again(tmp_path: Path) -> None:
    folder, away = tmp_path / "in", tmp_path / "away"
    folder.mkdir()
    with watching(f"dir://{folder}?ready=rename") as watched:
        assert watched.capture.opened.wait(20)
        folder.rename(away)
        assert "mount it again" in watched.lost().fault_detail
        away.rename(folder)
        (folder / "a.png").write_bytes(PNG)
        assert watched.good().frame_id == "a.png"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read: No such file or directory; make it"):
        open_source(f"dir://{tmp_path / 'nowhere'}").open()


def test_a_hundred_files_written_from_another_thread_all_arrive(tmp_path: Path) -> None:
    def write() -> None:
        for number in range(100):
            (tmp_path / f".{number}.png").write_bytes(PNG)
            (tmp_path / f".{number}.png").rename(tmp_path / f"{number}.png")
            time.sleep(0.001)

    with watching(f"dir://{tmp_path}?ready=rename") as watched:
        writer = threading.Thread(target=write)
        writer.start()
        assert {watched.good().frame_id for _ in range(100)} == {f"{number}.png" for number in range(100)}
        writer.join()
