"""`lad-edge promote`: the engine on trial takes the place of the line's while it runs, and the one before comes back."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from background import running, wait_for
from tiny import Recipe, good_picture, write_bundle
from waiting import until

from lad_edge import bundle
from lad_edge.bundle.lineage import put_copy_in_place
from lad_edge.cli import main

WAIT_S = 60.0


@pytest.fixture
def line(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The configuration of a line with another engine on trial; its folder holds everything."""
    (tmp_path / "pictures").mkdir()
    for i in range(300):
        picture = cv2.imencode(".png", good_picture(i % 20))[1].tobytes()
        (tmp_path / "pictures" / f"{i:04}.png").write_bytes(picture)
    (tmp_path / "part.lad").write_bytes(tiny_bundle.read_bytes())
    write_bundle(tmp_path / "next.lad", Recipe(policy=("fixed", -1000.0)))  # rejects everything
    config = tmp_path / "line.toml"
    config.write_text(
        f'engine = "{tmp_path}/part.lad"\nsource = "{tmp_path}/pictures"\nfps = 40\nquiet = true\nout = "{tmp_path}/r.jsonl"\n'
        f'shadow = "{tmp_path}/next.lad"\nshadow-out = "{tmp_path}/trial"\n'
    )
    return config


@pytest.fixture
def process(line: Path) -> Iterator[subprocess.Popen[str]]:
    with running("run", "-c", line) as process:
        wait_for(process, "self-test passed")
        until(lambda: judged(line.parent) >= 5)
        yield process


def judged(folder: Path) -> int:
    path = folder / "trial" / "trial.json"
    return sum(json.loads(path.read_text())["pairs"].values()) if path.exists() else 0


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(text) for text in (folder / "r.jsonl").read_text().splitlines()]


def promote(folder: Path, *words: str) -> int:
    return main(["promote", str(folder / "trial"), *words])


def test_the_shadow_judges_from_one_part_to_the_next_and_the_engine_before_comes_back(
    line: Path, process: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = line.parent
    old, new = (bundle.read(folder / name).sha256 for name in ("part.lad", "next.lad"))
    assert promote(folder, "--least", "5", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert "rejected by the engine of before alone 0" in done["evidence"]
    assert (bundle.read(folder / "part.lad").sha256, bundle.read(Path(done["kept"])).sha256) == (new, old)
    until(lambda: records(folder)[-1]["verdict"] == "NG")
    assert promote(folder, "--back") == 0
    assert "the line judges with it" in capsys.readouterr().out
    assert bundle.read(folder / "part.lad").sha256 == old
    until(lambda: records(folder)[-1]["verdict"] == "OK")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    found = records(folder)
    assert [record["seq"] for record in found] == list(range(1, len(found) + 1))
    engines = [record["engine_sha256"] for record in found if record["score"] is not None]
    assert [sha256 for sha256, before in zip(engines, [None, *engines], strict=False) if sha256 != before] == [
        old,
        new,
        old,
    ]


def test_too_few_parts_are_no_trial_unless_forced(
    line: Path, process: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, before = line.parent, (line.parent / "part.lad").read_bytes()
    assert promote(folder, "--least", "100000") == 1
    assert "of 100000 parts: wait, or take fewer with --least, or --force" in capsys.readouterr().err
    assert (folder / "part.lad").read_bytes() == before
    assert promote(folder, "--force") == 0
    assert (folder / "part.lad").read_bytes() == (folder / "next.lad").read_bytes()
    assert promote(folder, "--force") == 1
    assert "is the engine on trial already" in capsys.readouterr().err


def test_a_line_that_refuses_keeps_its_engine_and_its_file(
    line: Path, process: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, before = line.parent, (line.parent / "part.lad").read_bytes()
    line.write_text(line.read_text() + "treads = 1\n")
    assert promote(folder, "--force") == 4
    assert "did you mean 'threads'?" in capsys.readouterr().err
    assert (folder / "part.lad").read_bytes() == before
    count = len(records(folder))
    until(lambda: len(records(folder)) > count + 5)
    assert len({record["engine_sha256"] for record in records(folder)}) == 1


def test_without_a_line_the_file_is_replaced_for_its_next_start(
    line: Path, process: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert promote(line.parent, "--force") == 0
    assert "no line runs" in capsys.readouterr().out
    assert (line.parent / "part.lad").read_bytes() == (line.parent / "next.lad").read_bytes()


def test_engines_that_have_changed_since_are_no_engines_that_were_tried(
    line: Path, process: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "other.lad", Recipe(policy=("fixed", 0.5)))
    (tmp_path / "next.lad").write_bytes((tmp_path / "other.lad").read_bytes())
    assert promote(tmp_path, "--force") == 1
    assert "is another file than the line runs" in capsys.readouterr().err


def test_two_lines_do_not_share_a_trial(
    line: Path, process: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line.write_text(line.read_text().replace("r.jsonl", "other.jsonl"))
    assert main(["run", "-c", str(line)]) == 6
    assert "another line writes there" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--back"]])
def test_a_folder_without_a_trial(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trial").mkdir()
    assert promote(tmp_path, *words) == 1
    assert "holds no trial" in capsys.readouterr().err or words


def test_the_copy_in_place_is_a_file_of_its_own_with_the_rights_of_the_engine(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    engine, other = tmp_path / "part.lad", write_bundle(tmp_path / "next.lad", Recipe(policy=("fixed", 0.5)))
    engine.write_bytes(tiny_bundle.read_bytes())
    engine.chmod(0o640)
    kept = put_copy_in_place(other, engine)
    assert engine.stat().st_mode & 0o777 == 0o640
    assert engine.stat().st_ino != other.stat().st_ino
    assert kept.read_bytes() == tiny_bundle.read_bytes()
