"""A recorded decision can be made again, bit by bit; where it cannot, the reason is said."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from tiny import good_picture, spotted_picture

from lad_edge.cli import main
from lad_edge.cli.replay import DIFFERS_EXIT

PARTS = 6


@pytest.fixture
def kept(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A folder with `line.sqlite` and `pictures`, of six parts of which the third and the sixth are bad."""
    (tmp_path / "source").mkdir()
    for i in range(PARTS):
        picture = spotted_picture(2) if i % 3 == 2 else good_picture(i % 2)
        (tmp_path / "source" / f"{i}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    words = ["--engine", tiny_bundle, "--source", tmp_path / "source", "--fps", 20, "--quiet"]
    words += ["--out", f"sqlite:{tmp_path}/line.sqlite", "--out", f"images:{tmp_path}/pictures?ok=1&min-free=1MB"]
    assert main(["run", *map(str, words)]) == 0
    return tmp_path


def replay(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = main(["replay", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_every_decision_is_made_again(kept: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = 0, {"states": {"identical": PARTS}, "parts": []}
    assert replay(capsys, kept / "pictures", "--engine", tiny_bundle) == expected
    words = (kept / "line.sqlite", "--pictures", kept / "pictures", "--engine", tiny_bundle)
    assert replay(capsys, *words) == expected


def test_one_part_of_many(kept: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(kept / "pictures"), "--engine", str(tiny_bundle), "--frame", "3"]) == 0
    assert capsys.readouterr().out == "       3  identical\n1 records: 1 identical\n"


def test_another_runtime_is_the_reason(kept: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = replay(capsys, kept / "pictures", "--engine", tiny_bundle, "--runtime", "onnxruntime")
    assert code == (DIFFERS_EXIT if told["parts"] else 0)
    for part in told["parts"]:  # type: ignore[attr-defined]
        assert any("onnxruntime" in why and why.startswith("runtime openvino") for why in part["why"])


def test_another_engine_is_the_reason(kept: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = kept / "other.lad"
    other.write_bytes(tiny_bundle.read_bytes())
    assert main(["calibrate", str(other), "--policy", "conformal:10%", "-o", str(kept / "new.lad")]) == 0
    code, told = replay(capsys, kept / "pictures", "--engine", kept / "new.lad")
    assert code == DIFFERS_EXIT
    assert {part["why"][0][:14] for part in told["parts"]} == {"another engine"}  # type: ignore[attr-defined]


def test_a_picture_that_was_changed_is_not_judged_as_if_it_were_the_one(
    kept: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next((kept / "pictures").glob("*/*/*3_NG.png"))
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    picture[0, 0] ^= 1
    cv2.imwrite(str(path), picture)
    code, told = replay(capsys, kept / "pictures", "--engine", tiny_bundle)
    assert code == 0
    assert told["states"] == {"identical": PARTS - 1, "with another picture than was judged": 1}


def test_a_picture_that_was_not_kept_is_counted(
    kept: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next((kept / "pictures").glob("*/*/*3_NG.png")).unlink()
    words = (kept / "line.sqlite", "--pictures", kept / "pictures", "--engine", tiny_bundle)
    assert replay(capsys, *words)[1]["states"] == {"identical": PARTS - 1, "without a picture": 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "does not exist"),
        (["line.sqlite"], "give the folder of --out images:FOLDER"),
        (["pictures", "--frame", "99"], "holds no part 99"),
        (["source"], "holds no parts"),
        (["source/0.png", "--pictures", "pictures"], "no records of lad-edge can be read there"),
    ],
)
def test_what_is_wrong_is_said(
    kept: Path,
    tiny_bundle: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(kept)
    assert main(["replay", *words, "--engine", str(tiny_bundle)]) not in (0, DIFFERS_EXIT)
    assert message in capsys.readouterr().err


def test_what_came_too_late_is_judged_again_though_its_part_was_unknown(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.png").write_bytes(cv2.imencode(".png", spotted_picture(2))[1].tobytes())
    words = ["--engine", tiny_bundle, "--source", tmp_path / "one.png", "--deadline", "0.001ms", "--quiet"]
    for out in (f"{tmp_path}/line.jsonl", f"sqlite:{tmp_path}/line.sqlite", f"images:{tmp_path}/pictures?min-free=1MB"):
        words += ["--out", out]
    assert main(["run", *map(str, words)]) == 0
    record = json.loads((tmp_path / "line.jsonl").read_text())  # one line: nothing else was put out
    assert (record["verdict"], record["reasons"], record["score"]) == ("UNKNOWN", ["DEADLINE"], None)
    words = ["replay", tmp_path / "line.sqlite", "--pictures", tmp_path / "pictures", "--engine", tiny_bundle]
    assert main([*map(str, words), "--frame", "1"]) == 0
    assert capsys.readouterr().out == "       1  identical, came too late\n1 records: 1 identical; 1 came too late\n"
