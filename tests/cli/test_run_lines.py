"""`lad-edge run -c`: several cameras in one process, other engines by SIGHUP, and what systemd hears of it."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import background
import cv2
import pytest
from background import wait_for
from tiny import good_picture
from waiting import until

from lad_edge.cli import main
from lad_edge.cli.lines import Lines
from lad_edge.cli.reloading import reload
from lad_edge.stream.stopping import StopSignal

WAIT_S = 60.0


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(300):
        (folder / f"{i:04}.png").write_bytes(cv2.imencode(".png", good_picture(i % 2))[1].tobytes())
    return folder


@pytest.fixture
def config(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> Path:
    """Two cameras; one of them has an engine of its own to be replaced."""
    (tmp_path / "own.lad").write_bytes(tiny_bundle.read_bytes())
    path = tmp_path / "line.toml"
    path.write_text(
        f"""
engine = "{tiny_bundle}"
source = "{pictures}"
quiet = true

[[camera]]
name = "top"
out = "{tmp_path}/top.jsonl"

[[camera]]
name = "side"
engine = "{tmp_path}/own.lad"
fps = 50
out = "{tmp_path}/side.jsonl"
"""
    )
    return path


def running(config: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return background.running("run", "-c", config)


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_each_camera_has_its_engine_and_its_records(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("fps = 50", "max-frames = 7"))
    assert main(["run", "-c", str(config)]) == 0
    top, side = records(tmp_path / "top.jsonl"), records(tmp_path / "side.jsonl")
    assert [record["seq"] for record in top] == list(range(1, 301))
    assert [record["seq"] for record in side] == list(range(1, 8))


def test_a_signal_ends_all_of_them(config: Path, tmp_path: Path) -> None:
    with running(config) as process:
        until(lambda: len(records(tmp_path / "side.jsonl")) > 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    side = records(tmp_path / "side.jsonl")
    assert [record["seq"] for record in side] == list(range(1, len(side) + 1))


def test_a_line_that_fails_ends_the_others_and_says_why(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace(f"{tmp_path}/side.jsonl", "/nowhere/side.jsonl"))
    assert main(["run", "-c", str(config)]) != 0
    assert "/nowhere/side.jsonl" in capsys.readouterr().err


def test_sighup_replaces_the_engine_between_two_parts_and_none_is_lost(
    config: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    before = records(tmp_path / "side.jsonl")
    with running(config) as process:
        until(lambda: len(records(tmp_path / "side.jsonl")) > 3)
        config.write_text(config.read_text().replace("fps = 50", "fps = 50\nthreshold = -1000.0"))
        process.send_signal(signal.SIGHUP)
        wait_for(process, "side: own.lad judges from the next part on")
        before = records(tmp_path / "side.jsonl")
        until(lambda: records(tmp_path / "side.jsonl")[-1]["verdict"] == "NG")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    side = records(tmp_path / "side.jsonl")
    verdicts = [record["verdict"] for record in side if record["score"] is not None]
    assert [record["seq"] for record in side] == list(range(1, len(side) + 1))
    assert verdicts == ["OK"] * verdicts.count("OK") + ["NG"] * verdicts.count("NG")
    assert verdicts.count("OK") >= len(before) - 1


def test_a_reload_that_is_bad_is_refused_and_the_line_goes_on(config: Path, tmp_path: Path) -> None:
    with running(config) as process:
        until(lambda: len(records(tmp_path / "side.jsonl")) > 3)
        (tmp_path / "own.lad").write_bytes(b"no engine")
        process.send_signal(signal.SIGHUP)
        wait_for(process, "reload refused, everything goes on as it was")
        count = len(records(tmp_path / "side.jsonl"))
        until(lambda: len(records(tmp_path / "side.jsonl")) > count + 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert {record["verdict"] for record in records(tmp_path / "side.jsonl") if record["score"] is not None} == {"OK"}


def test_a_reload_that_breaks_down_is_refused_like_a_bad_one() -> None:
    """An engine may fail to open in ways that nobody has named; the lines that run are not to hear of it."""
    told: list[str] = []

    def again() -> list[argparse.Namespace]:
        raise RuntimeError("scripted: a library fell over")

    with StopSignal() as stop:
        lines = Lines([], stop, lambda _args, _show: None)
        reload(lines, again, lambda _args, _live: None, told.append)  # type: ignore[arg-type, return-value]
    assert told == ["reload refused, everything goes on as it was: RuntimeError: scripted: a library fell over"]


def test_a_reload_of_a_file_with_a_typing_error_is_refused_too(config: Path, tmp_path: Path) -> None:
    with running(config) as process:
        until(lambda: len(records(tmp_path / "side.jsonl")) > 3)
        config.write_text(config.read_text().replace("fps = 50", "fps = -50"))
        process.send_signal(signal.SIGHUP)
        wait_for(process, "reload refused, everything goes on as it was")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_other_settings_that_have_changed_are_named(config: Path, tmp_path: Path) -> None:
    with running(config) as process:
        until(lambda: len(records(tmp_path / "side.jsonl")) > 3)
        config.write_text(config.read_text().replace("fps = 50", "fps = 60"))
        process.send_signal(signal.SIGHUP)
        wait_for(process, "taken over by a restart alone: fps")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_systemd_hears_that_the_lines_are_ready_move_and_stop(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WAIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        heard = []
        with running(config) as process:
            while not any("WATCHDOG=1" in text and "side: " in text for text in heard):
                heard.append(systemd.recv(4096).decode())
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            while heard[-1] != "STOPPING=1":
                heard.append(systemd.recv(4096).decode())
    assert "READY=1" in heard


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "side"', 'name = "top"'), "each [[camera]] needs a name of its own; came top, top"),
        (('name = "side"', 'nam = "side"'), "did you mean 'name'?"),
        (("quiet = true", "quite = true"), "did you mean 'quiet'?"),
        (("fps = 50", "fps = -1"), "line.toml: argument --fps: expected a number above 0"),
        (("source =", "# source ="), "names no source"),
        (("side.jsonl", "top.jsonl"), "'top' and 'side' both write"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    config: Path, change: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace(*change))
    assert main(["run", "--check", "-c", str(config)]) == 1
    assert message in capsys.readouterr().err


def test_words_beside_a_file_are_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-c", str(config), "--threads", "2"]) == 1
    assert "--threads beside -c" in capsys.readouterr().err


def test_a_file_that_is_fine_is_fine(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--check", "-c", str(config)]) == 0
    assert capsys.readouterr().out == "top: fine\nside: fine\n"


def test_another_engine_on_trial_is_compared_with_the_line(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--engine",
        tiny_bundle,
        "--source",
        pictures,
        "--threshold",
        -1000.0,
        "--fps",
        100,
        "--max-frames",
        30,
        "--quiet",
    ]
    words += ["--shadow", tiny_bundle, "--shadow-out", tmp_path / "trial"]
    assert main(["run", *map(str, words)]) == 0
    told = capsys.readouterr().err
    assert "0 of " in told
    assert "rejected by the line alone" in told
    kept = records(tmp_path / "trial" / "disagreements.jsonl")
    assert kept
    assert all((tmp_path / "trial" / str(record["picture"])).is_file() for record in kept)


def test_a_folder_for_a_trial_without_an_engine(
    tiny_bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--engine", str(tiny_bundle), "--source", str(pictures), "--shadow-out", "x"]) == 1
    assert "give an engine with --shadow" in capsys.readouterr().err


def test_a_plc_triggers_the_parts_of_a_line_and_reads_their_verdicts(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        plc = f"modbus://127.0.0.1:{probe.getsockname()[1]}"
    height, width = good_picture(0).shape[:2]
    (tmp_path / "plc.toml").write_text(
        f'engine = "{tiny_bundle}"\nsource = "pattern://{width}x{height}?fps=200"\nplc = "{plc}"\n'
        f'quiet = true\nout = "{tmp_path}/plc.jsonl"\n'
    )
    with running(tmp_path / "plc.toml") as process:
        wait_for(process, "self-test passed")
        assert main(["io", "fake-plc", plc, "--parts", "25", "--interval", "10ms", "--json"]) == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    counted = json.loads(capsys.readouterr().out)
    found = [record["verdict"] for record in records(tmp_path / "plc.jsonl")]
    assert counted["triggers"] == len(found) == 25
    assert counted["verdicts"] == {verdict: found.count(verdict) for verdict in ("OK", "NG", "UNKNOWN")}
