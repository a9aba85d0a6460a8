"""lad-edge feedback as an operator uses it: run keeps parts, some are named, an engine is proposed, applied, taken back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import good_picture, spotted_picture

import lad_edge
from lad_edge import bundle as bundles
from lad_edge.cli import main
from lad_edge.values import Verdict

Show = pytest.CaptureFixture[str]
KINDS = ("usual", "usual", "usual", "lot", "lot", "lot", "lot", "hole")  # in the order of their numbers, from 1


def part(seed: int, kind: str = "usual") -> NDArray[np.uint8]:
    """A plate with a disc and a bar; of another lot: with a label; bad: with a hole."""
    rng = np.random.default_rng(seed)
    picture = np.full((72, 96, 3), (90, 100, 110), np.uint8)
    x, y = rng.integers(-3, 4, 2).tolist()
    cv2.circle(picture, (30 + x, 36 + y), 14, (40, 60, 200), -1)
    cv2.rectangle(picture, (62 - y, 18 + x), (80 - y, 54 + x), (180, 170, 60), -1)
    if kind == "lot":
        cv2.rectangle(picture, (10, 52), (50, 66), (30, 60, 30), -1)
        cv2.circle(picture, (30, 59), 5, (150, 160, 150), -1)
    if kind == "hole":
        cv2.circle(picture, (70, 36), 9, (5, 5, 5), -1)
    return np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def write_folder(folder: Path, pictures: list[NDArray[np.uint8]]) -> Path:
    folder.mkdir()
    for number, picture in enumerate(pictures, 1):
        cv2.imwrite(str(folder / f"{number:03}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with part.lad, taught 14 usual parts, and parts/, what a run over KINDS has kept."""
    root = tmp_path_factory.mktemp("judged")
    good = write_folder(root / "good", [part(seed) for seed in range(14)])
    assert main(["teach", "--source", str(good), "-o", str(root / "part.lad"), "--quiet", "--precision", "f32"]) == 0
    write_folder(root / "line", [part(100 + number, kind) for number, kind in enumerate(KINDS)])
    run_over(root, "part.lad")
    return root


def run_over(root: Path, engine: str) -> None:
    outputs = [f"images:{root / 'parts'}?ok=1", f"sqlite:{root / 'line.sqlite'}", str(root / "line.jsonl")]
    words = ["--source", str(root / "line"), *(word for out in outputs for word in ("--out", out)), "--quiet"]
    assert main(["run", "--engine", str(root / engine), *words]) == 0
    assert len(list((root / "parts").glob("*/*/*.json"))) == len(KINDS)


@pytest.fixture
def line(judged: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(judged, tmp_path / "line"))


def feedback(*words: object) -> int:
    return main(["feedback", *map(str, words)])


def proposed(line: Path, capfd: Show, *words: object) -> dict[str, Any]:
    capfd.readouterr()
    assert feedback("propose", line / "part.lad", line / "parts", *words, "--json") == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def verdicts(engine: Path) -> list[Verdict]:
    with lad_edge.load(engine, threads=1) as inspector:
        return [inspector(part(300 + number, kind)).verdict for number, kind in enumerate(KINDS)]


LOT = ("--false-reject", 4, 5, 6, 7)


def test_false_rejects_become_good_parts_and_the_proposal_says_what_changes(line: Path, capfd: Show) -> None:
    before = (line / "part.lad").read_bytes()
    report = proposed(line, capfd, *LOT)
    assert report["kept_parts"]["before"] == {"good": 7, "false_rejects": 4, "bad": 1, "missed": 0}
    assert report["kept_parts"]["after"]["false_rejects"] < 4
    assert report["kept_parts"]["after"]["missed"] == 0
    assert all(was == "NG" and now == "OK" for was, now in report["changed"].values())
    assert (line / "part.lad").read_bytes() == before
    manifest = bundles.read(line / "part.proposed.lad").manifest
    assert manifest.provenance["parts"] == 18
    change = bundles.changes_of(manifest)[-1]
    assert (change.parent_sha256, change.why) == (bundles.read(line / "part.lad").sha256, "4 false rejects")


def test_what_operators_said_on_the_page_counts_as_if_it_were_named(line: Path, capfd: Show) -> None:
    records = {part["seq"]: part for part in map(json.loads, map(Path.read_text, (line / "parts").glob("*/*/*.json")))}
    gone = records[4] | {"seq": 999}
    (line / "labels").mkdir()
    (line / "labels" / "labels.jsonl").write_text(
        "".join(
            json.dumps({"label": label, "camera": "", "record": record}) + "\n"
            for label, record in [*(("false_reject", records[seq]) for seq in LOT[1:]), ("false_reject", gone)]
        )
    )
    assert feedback("propose", line / "part.lad", line / "parts", "--labels", line / "labels", "--json") == 0
    shown = capfd.readouterr()
    assert "1 parts that were called false_reject are not among the pictures" in shown.err
    named = proposed(line, capfd, *LOT)
    assert json.loads(shown.out)["kept_parts"] == named["kept_parts"]


@pytest.mark.parametrize("records", ["line.sqlite", "line.jsonl"])
def test_records_of_all_parts_serve_as_those_beside_the_pictures_do(line: Path, capfd: Show, records: str) -> None:
    expected = proposed(line, capfd, *LOT)
    by_file_name = ("--false-reject", *(f"{seq:03}.png" for seq in LOT[1:]))
    assert (
        feedback("propose", line / "part.lad", line / records, "--pictures", line / "parts", *by_file_name, "--json")
        == 0
    )
    found = json.loads(capfd.readouterr().out)
    assert {**found, "sha256": ""} == {**expected, "sha256": ""}


def test_a_part_whose_picture_was_not_kept_is_told_apart_from_one_that_never_was(line: Path, capfd: Show) -> None:
    for path in (line / "parts").glob("*/*/000000000002_OK.*"):
        path.unlink()
    for seq, message in ((2, "the part was OK and its picture was not kept"), (99, "no part of this number or id")):
        words = (line / "part.lad", line / "line.sqlite", "--pictures", line / "parts", "--missed", seq)
        assert feedback("propose", *words) == 1
        assert message in capfd.readouterr().err


def test_a_name_that_several_parts_have_is_refused_though_one_picture_was_kept(line: Path, capfd: Show) -> None:
    again = json.loads((line / "line.jsonl").read_text().splitlines()[3])
    with (line / "line.jsonl").open("a") as records:
        records.write(json.dumps(again | {"seq": 99, "utc_ns": again["utc_ns"] + 1}) + "\n")
    words = (line / "part.lad", line / "line.jsonl", "--pictures", line / "parts", "--false-reject", "004.png")
    assert feedback("propose", *words) == 1
    assert "004.png means several parts" in capfd.readouterr().err


def test_a_lower_threshold_is_tried_on_all_recorded_parts_first(line: Path, capfd: Show) -> None:
    words = ("--missed", 1, "--most-false-rejects", "100%")
    history = proposed(line, capfd, *words)["recorded_parts"]
    assert history["judged"] == len(KINDS) - 1
    assert history["rejected"]["before"] == 5
    assert history["rejected"]["after"] >= 5
    assert proposed(line, capfd, *LOT)["recorded_parts"]["rejected"]["after"] is None


@pytest.mark.parametrize("content", [b"no record\n", b'{"seq": 1}\n', b"SQLite format 3\0 but no more"])
def test_a_file_that_holds_no_records_is_refused(line: Path, capfd: Show, content: bytes) -> None:
    (line / "x").write_bytes(content)
    assert feedback("propose", line / "part.lad", line / "x", "--pictures", line / "parts", *LOT) == 2
    assert "no records of lad-edge can be read there" in capfd.readouterr().err


def test_records_without_pictures_are_refused(line: Path, capfd: Show) -> None:
    assert feedback("propose", line / "part.lad", line / "line.sqlite", *LOT) == 1
    assert "--pictures" in capfd.readouterr().err


def test_a_folder_that_holds_no_labels_is_refused(line: Path, capfd: Show) -> None:
    assert feedback("propose", line / "part.lad", line / "parts", "--labels", line) == 2
    assert "no labels of 'lad-edge run --dashboard-labels'" in capfd.readouterr().err


def test_the_applied_engine_releases_new_parts_of_that_lot_and_rollback_brings_the_old_one_back(
    line: Path, capfd: Show
) -> None:
    before, sha256 = (line / "part.lad").read_bytes(), bundles.read(line / "part.lad").sha256
    proposed(line, capfd, *LOT)
    after = (line / "part.proposed.lad").read_bytes()
    assert feedback("apply", line / "part.proposed.lad") == 0
    assert (line / "part.lad").read_bytes() == after
    assert (line / f"part.{sha256[:12]}.lad").read_bytes() == before
    assert not (line / "part.proposed.lad").exists()
    found = verdicts(line / "part.lad")
    assert found[3:7].count(Verdict.OK) >= 3
    assert found[7] is not Verdict.OK
    assert feedback("rollback", line / "part.lad") == 0
    assert (line / "part.lad").read_bytes() == before
    assert (line / f"part.{bundles.loads(after).sha256[:12]}.lad").read_bytes() == after
    assert verdicts(line / "part.lad")[3:7].count(Verdict.OK) <= 1


def test_a_person_reads_thresholds_rates_and_the_next_command(line: Path, capfd: Show) -> None:
    assert feedback("propose", line / "part.lad", line / "parts", *LOT) == 0
    shown = capfd.readouterr().out
    assert "threshold " in shown
    assert "kept parts before: 4 of 7 good ones rejected, 0 of 1 bad ones missed" in shown
    assert shown.rstrip().endswith(f"next: lad-edge feedback apply {line / 'part.proposed.lad'}")


def test_a_proposal_for_an_engine_that_has_changed_since_is_refused(line: Path, capfd: Show) -> None:
    proposed(line, capfd, *LOT)
    assert main(["calibrate", str(line / "part.lad"), "--policy", "quantile:0.9"]) == 0
    assert feedback("apply", line / "part.proposed.lad") == 1
    assert "it has changed since; propose again" in capfd.readouterr().err


def test_what_calibrate_did_to_a_file_is_taken_back(line: Path) -> None:
    before = (line / "part.lad").read_bytes()
    assert main(["calibrate", str(line / "part.lad"), "--policy", "quantile:0.5"]) == 0
    change = bundles.changes_of(bundles.read(line / "part.lad").manifest)[-1]
    assert change.why == "calibrate quantile:0.5"
    assert feedback("rollback", line / "part.lad") == 0
    assert (line / "part.lad").read_bytes() == before


def test_each_change_is_in_the_history_and_info_shows_it(line: Path, capfd: Show) -> None:
    first = bundles.read(line / "part.lad").sha256
    proposed(line, capfd, *LOT)
    assert feedback("apply", line / "part.proposed.lad") == 0
    assert main(["calibrate", str(line / "part.lad"), "--policy", "quantile:0.9"]) == 0
    assert main(["info", str(line / "part.lad")]) == 0
    shown = capfd.readouterr().out.splitlines()
    history = shown[shown.index("history, the last change at the end") + 1 :]
    assert [text.partition(": ")[2].partition(";")[0] for text in history] == [
        "4 false rejects",
        "calibrate quantile:0.9",
    ]
    assert first[:12] in history[0]
    assert feedback("rollback", line / "part.lad") == 0
    assert feedback("rollback", line / "part.lad") == 0
    assert bundles.read(line / "part.lad").sha256 == first


def test_an_engine_that_was_made_from_no_other_cannot_go_back(line: Path, capfd: Show) -> None:
    assert feedback("rollback", line / "part.lad") == 1
    assert "there is nothing to go back to" in capfd.readouterr().err


def test_an_engine_of_before_that_is_gone_is_named(line: Path, capfd: Show) -> None:
    proposed(line, capfd, *LOT)
    assert feedback("apply", line / "part.proposed.lad") == 0
    kept = next(line.glob("part.????????????.lad"))
    kept.unlink()
    assert feedback("rollback", line / "part.lad") == 1
    assert f"{kept}, the engine of before, is gone" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 1, "nothing was said of any part"),
        (("--false-reject", 99), 1, "--false-reject 99: no part of this number or id is recorded"),
        (("--false-reject", 1), 1, "contradicts its record, which says OK"),
        (("--missed", 8), 1, "contradicts its record, which says NG"),
        (("--false-reject", 4, "--missed", 4), 1, "cannot be a false reject and missed at once"),
    ],
)
def test_labels_that_cannot_be_are_refused(
    line: Path, capfd: Show, words: tuple[object, ...], code: int, message: str
) -> None:
    assert feedback("propose", line / "part.lad", line / "parts", *words) == code
    assert message in capfd.readouterr().err
    assert not (line / "part.proposed.lad").exists()


def test_a_part_whose_picture_is_gone_or_another_one_is_refused(line: Path, capfd: Show) -> None:
    picture = next((line / "parts").glob("*/*/000000000004_NG.png"))
    cv2.imwrite(str(picture), part(9, "lot"))
    assert feedback("propose", line / "part.lad", line / "parts", *LOT) == 2
    assert "is not the picture that was judged" in capfd.readouterr().err
    picture.unlink()
    assert feedback("propose", line / "part.lad", line / "parts", *LOT) == 2
    assert "is gone; leave this part out" in capfd.readouterr().err


def test_records_of_another_engine_are_refused(line: Path, capfd: Show) -> None:
    assert main(["calibrate", str(line / "part.lad"), "--policy", "quantile:0.9"]) == 0
    assert feedback("propose", line / "part.lad", line / "parts", *LOT) == 2
    assert "was judged by the engine" in capfd.readouterr().err


def test_a_folder_without_parts_is_refused(line: Path, capfd: Show) -> None:
    assert feedback("propose", line / "part.lad", line / "good", *LOT) == 2
    assert "holds no parts" in capfd.readouterr().err


@pytest.fixture
def exported(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A trained engine, and what it made of good parts, one brighter than its validation images, and a faint spot."""
    shutil.copy(tiny_bundle, tmp_path / "part.lad")
    threshold = bundles.read(tiny_bundle).calibration("f32").threshold
    with lad_edge.load(tiny_bundle, threads=1) as inspector:
        spots = [spotted_picture(5, (level,) * 3) for level in range(128, 256, 2)]
        scores = [inspector(spot).score or 0.0 for spot in spots]
    above = next(spot for spot, score in zip(spots, scores, strict=True) if score > 1.05 * threshold)
    below = [spot for spot, score in zip(spots, scores, strict=True) if score <= threshold][-1]
    write_folder(tmp_path / "line", [good_picture(1), above, below, good_picture(2)])
    words = ["--source", str(tmp_path / "line"), "--out", f"images:{tmp_path / 'parts'}?ok=1", "--quiet"]
    assert main(["run", "--engine", str(tmp_path / "part.lad"), *words]) == 0
    return tmp_path


def test_a_trained_engine_gets_a_threshold_that_rests_on_the_false_rejects_too(exported: Path, capfd: Show) -> None:
    report = proposed(exported, capfd, "--false-reject", 2, "--policy", "conformal:2%")
    assert report["threshold"]["after"] > report["threshold"]["before"]
    assert report["changed"] == {report_name(report): ["NG", "OK"]}
    assert len(bundles.read(exported / "part.proposed.lad").scores("f32")) == 61


def test_the_threshold_goes_under_a_missed_part_if_few_good_parts_are_rejected_then(
    exported: Path, capfd: Show
) -> None:
    report = proposed(exported, capfd, "--missed", 3, "--most-false-rejects", "50%")
    assert report["missed_are_found"]
    assert report["threshold"]["after"] < report["threshold"]["before"]
    assert next(iter(report["changed"].values())) == ["OK", "NG"]


def test_a_missed_part_that_would_cost_too_many_good_ones_is_said(exported: Path, capfd: Show) -> None:
    assert feedback("propose", exported / "part.lad", exported / "parts", "--missed", 1, "--most-false-rejects", 0) == 0
    assert "a missed part still passes" in capfd.readouterr().out


def report_name(report: dict[str, Any]) -> str:
    (name,) = report["changed"]
    return str(name)
