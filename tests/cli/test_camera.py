"""lad-edge camera with real sources: what is found, what is grabbed, and that losses are seen and have a remedy."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2
import pytest
from gige_camera import gige_camera

from lad_edge.cli import main
from lad_edge.cli.camera_checks import check_interfaces, check_receive_buffer, check_usb_memory
from lad_edge.sources.pattern import Pattern, read_number
from lad_edge.sources.source import fault_now
from lad_edge.sources.uri import parse
from lad_edge.values import Frame, Reason


def camera(*words: object) -> int:
    return main(["camera", *map(str, words)])


def test_a_camera_that_answers_is_listed_with_the_uri_that_opens_it(capfd: pytest.CaptureFixture[str]) -> None:
    with gige_camera("LAD-7") as gige:
        assert camera("list", "--json") == 0
        listed = json.loads(capfd.readouterr().out)["cameras"]
        assert {"driver": "genicam", "uri": gige.uri, "name": "Aravis Fake", "where": "127.0.0.1"} in listed


def test_grabbed_frames_are_lossless_files_in_order(tmp_path: Path) -> None:
    assert camera("grab", "pattern://64x48?format=mono8", "-n", 3, "--out", tmp_path / "shots") == 0
    files = sorted((tmp_path / "shots").iterdir())
    assert [file.name for file in files] == ["frame-0001.png", "frame-0002.png", "frame-0003.png"]
    assert [read_number(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)) for file in files] == [1, 2, 3]


def test_fewer_pictures_than_asked_for_are_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert camera("grab", "pattern://64x48?frames=2", "-n", 3, "--out", tmp_path) == 5
    assert "gave 2 of 3 pictures" in capfd.readouterr().err


def test_a_preview_is_one_whole_picture_that_is_written_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert camera("preview", "pattern://64x48?fps=50", "--fps", 20, "--time", "300ms", "--out", tmp_path / "p.jpg") == 0
    assert int(capfd.readouterr().out.rpartition("written ")[2].split()[0]) >= 2
    assert [path.name for path in tmp_path.iterdir()] == ["p.jpg"]
    assert read_number(cv2.imread(str(tmp_path / "p.jpg"))) > 1


def test_a_camera_without_losses_is_healthy(capfd: pytest.CaptureFixture[str]) -> None:
    assert camera("doctor", "pattern://64x48?fps=50", "--time", "500ms", "--json") == 0
    findings = {finding["name"]: finding for finding in json.loads(capfd.readouterr().out)["findings"]}
    assert findings["losses"]["status"] == "ok"
    assert findings["rate"]["detail"].startswith(("49", "50", "51"))


def test_lost_packets_are_a_failure_with_a_remedy(capfd: pytest.CaptureFixture[str]) -> None:
    with gige_camera(lost_per_mille=3) as gige:
        assert camera("doctor", f"{gige.uri}?fps=40", "--time", "1s") == 5
    shown = capfd.readouterr().out
    assert "FAIL   losses" in shown
    assert " incomplete" in shown
    assert "larger packets and socket buffers" in shown


class Burst(Pattern):
    """Begins as a stream does whose first pictures were held back, and loses some of them where `again` is set."""

    again = False

    def open(self) -> None:
        super().open()
        self._left, self._again_s = 3, time.monotonic() + 1.2

    def read(self) -> Frame | None:
        if self.again and time.monotonic() > self._again_s:
            self._left, self.again = 1, False
        if self._left:
            self._left -= 1
            return fault_now("burst", Reason.DROPPED, "no memory was free")
        return super().read()


@pytest.mark.parametrize(("again", "status"), [(False, 0), (True, 5)])
def test_what_is_dropped_while_a_stream_begins_is_no_loss_and_what_is_dropped_later_is(
    again: bool, status: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = Burst(parse("pattern://64x48?fps=50"))
    source.again = again
    monkeypatch.setattr("lad_edge.sources.opening.open_source", lambda _: source)
    assert camera("doctor", "pattern://64x48?fps=50", "--time", "1.5s") == status
    assert ("1 dropped" in capfd.readouterr().out) is again


def test_a_camera_that_does_not_open_is_a_finding(capfd: pytest.CaptureFixture[str]) -> None:
    assert camera("doctor", "4711", "--time", "100ms") == 5
    assert "/dev/video4711 does not open" in capfd.readouterr().out


def test_settings_that_lose_frames_come_with_the_command_that_mends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file, value in (
        ("class/net/eth7/mtu", "1500"),
        ("class/net/eth7/device/vendor", ""),
        ("class/net/lo/mtu", "65536"),
        ("module/usbcore/parameters/usbfs_memory_mb", "16"),
        ("sys/net/core/rmem_max", "212992"),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(value)
    monkeypatch.setattr("lad_edge.cli.camera_checks._SYS", tmp_path)
    monkeypatch.setattr("lad_edge.cli.camera_checks._PROC", tmp_path)
    found = [*check_interfaces(), *check_receive_buffer(), *check_usb_memory()]
    assert {finding.status for finding in found} == {"warn"}
    assert [finding.remedy.partition("sudo ")[2].split()[0] for finding in found] == ["ip", "sysctl", "tee"]
    assert "eth7 mtu 9000" in found[0].remedy
