"""`lad-edge run --out ADDRESS --metrics`: records reach every place, and numbering, configuration and secrets are right."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import pytest
from background import running, wait_for
from test_run_stops import _EXIT_S, _HANG_IN_THIRD_PART
from tiny import good_picture, spotted_picture

from lad_edge.cli import main
from lad_edge.outputs.ledger import verify


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):
        picture = spotted_picture(i) if i % 3 == 2 else good_picture(i)
        (folder / f"{i}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return folder


def run(bundle: Path, pictures: Path, *words: object) -> int:
    return main(["run", "--engine", str(bundle), "--source", str(pictures), "--quiet", *map(str, words)])


def rows(path: Path, columns: str) -> Sequence[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute(f"SELECT {columns} FROM records ORDER BY id").fetchall()
    connection.close()
    return found


def test_every_place_gets_every_record_and_a_second_run_numbers_on(
    tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    outs = [
        f"sqlite:{tmp_path / 'r.sqlite'}",
        f"csv:{tmp_path / 'r.csv'}",
        f"images:{tmp_path / 'ng'}?min-free=0B",
        tmp_path / "r.jsonl",
    ]
    words = [word for out in outs for word in ("--out", out)]
    for _ in range(2):
        assert run(tiny_bundle, pictures, *words, "--name", "top", "--device", "box 1") == 0
    assert [seq for (seq,) in rows(tmp_path / "r.sqlite", "seq")] == list(range(1, 13))
    assert [json.loads(line)["seq"] for line in (tmp_path / "r.jsonl").read_text().splitlines()] == list(range(1, 13))
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 13
    assert sorted(int(path.name[:12]) for path in (tmp_path / "ng" / "top").rglob("*_NG.png")) == [3, 6, 9, 12]
    assert len(list((tmp_path / "ng").rglob("*.map.png"))) == 4
    keys = {(device, camera) for device, camera in rows(tmp_path / "r.sqlite", "device_id, camera_id")}
    assert keys == {("box-1", "top")}
    assert len({boot for (boot,) in rows(tmp_path / "r.sqlite", "boot_id")}) == 2


def test_the_configuration_of_a_record_is_what_decides_and_nothing_else(
    tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    out = f"sqlite:{tmp_path / 'r.sqlite'}"
    run(tiny_bundle, pictures, "--out", out)
    run(tiny_bundle, pictures, "--out", out, "--out", f"csv:{tmp_path / 'r.csv'}")
    run(tiny_bundle, pictures, "--out", out, "--threshold", "0.5")
    first, second, third = [sha256 for (sha256,) in rows(tmp_path / "r.sqlite", "config_sha256")][::6]
    assert first == second != third
    digests = [sha256 for (sha256,) in rows(tmp_path / "r.sqlite", "frame_sha256")]
    assert digests[:6] == digests[6:12]
    assert len(set(digests)) == 6


def test_a_slip_in_an_address_is_told_before_anything_opens(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(tiny_bundle, pictures, "--out", f"sqlite:{tmp_path / 'r.sqlite'}", "--out", "mqqt://bob:secret@host/x") == 1
    )
    told = capsys.readouterr().err
    assert "did you mean mqtt?" in told
    assert "secret" not in told
    assert not (tmp_path / "r.sqlite").exists()


def test_last_words_reach_the_outbox_when_the_engine_hangs(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    words = (
        "run",
        "--engine",
        tiny_bundle,
        "--source",
        pictures,
        "--out",
        f"sqlite:{tmp_path / 'r.sqlite'}",
        "--quiet",
    )
    with running(*words, program=_HANG_IN_THIRD_PART) as process:
        wait_for(process, "HANGING")
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(_EXIT_S) == 0
    found = rows(tmp_path / "r.sqlite", "seq, verdict")
    assert [seq for seq, _ in found] == list(range(1, len(found) + 1))
    assert found[2][1] == "UNKNOWN"


def test_a_dead_receiver_does_not_hold_up_the_end(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(
            tiny_bundle,
            pictures,
            "--out",
            f"sqlite:{tmp_path / 'r.sqlite'}",
            "--out",
            "http://127.0.0.1:1/hook",
            "--metrics",
            ":0",
        )
        == 0
    )
    told = capsys.readouterr().err
    assert "6 records wait in the outbox; they go out after the next start" in told
    assert "/hook: no answer" in told
    assert "metrics and health: http://127.0.0.1:" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_ends_at_any_moment_leaves_whole_records_and_the_next_goes_on(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, number: signal.Signals
) -> None:
    outs = ("--out", f"sqlite:{tmp_path / 'r.sqlite'}", "--out", "http://127.0.0.1:1/hook", "--quiet")
    words = ("run", "--engine", tiny_bundle, "--source", pictures, *outs)
    with running(*words, "--fps", 4) as process:
        wait_for(process, "self-test passed")
        time.sleep(0.7)
        process.send_signal(number)
        assert process.wait(_EXIT_S) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    ended = [seq for (seq,) in rows(tmp_path / "r.sqlite", "seq")]
    assert 0 < len(ended) < 6
    assert run(tiny_bundle, pictures, *outs[:-1]) == 0
    assert [seq for (seq,) in rows(tmp_path / "r.sqlite", "seq")] == list(range(1, len(ended) + 7))
    assert verify(tmp_path / "r.sqlite") == len(ended) + 6


def test_several_cameras_of_one_file_keep_their_records_apart(
    tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    config = tmp_path / "line.toml"
    cameras = "".join(f'[[camera]]\nname = "{name}"\nsource = "{pictures}"\n' for name in ("top", "side"))
    outs = [f"{kind}:{tmp_path}/{{camera}}.{kind}" for kind in ("sqlite", "csv")]
    config.write_text(f'engine = "{tiny_bundle}"\nquiet = true\nout = {json.dumps(outs)}\n{cameras}')
    assert main(["run", "-c", str(config)]) == 0
    for name in ("top", "side"):
        assert rows(tmp_path / f"{name}.sqlite", "camera_id, seq") == [(name, seq) for seq in range(1, 7)]
        assert len((tmp_path / f"{name}.csv").read_text().splitlines()) == 7
