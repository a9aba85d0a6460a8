"""`lad-edge teach` on small pictures, real sources and the real engine, and `lad-edge run` on what it wrote."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from background import running, wait_for
from mjpeg_server import serving
from numpy.typing import NDArray

from lad_edge import bundle as bundles
from lad_edge.cli import main
from lad_edge.images import read_image

SIZE = (96, 72)  # width, height
GOOD = 8
Show = pytest.CaptureFixture[str]


def part(seed: int, *, hole: bool = False) -> NDArray[np.uint8]:
    """A plate with a disc and a bar near their places; a bad one has a hole."""
    rng = np.random.default_rng(seed)
    picture = np.full((SIZE[1], SIZE[0], 3), (90, 100, 110), np.uint8)
    x, y = rng.integers(-3, 4, 2).tolist()
    cv2.circle(picture, (30 + x, 36 + y), 14, (40, 60, 200), -1)
    cv2.rectangle(picture, (62 - y, 18 + x), (80 - y, 54 + x), (180, 170, 60), -1)
    if hole:
        cv2.circle(picture, (70, 36), 9, (5, 5, 5), -1)
    return np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def write_folder(folder: Path, seeds: range, *, hole: bool = False) -> Path:
    folder.mkdir()
    for seed in seeds:
        cv2.imwrite(str(folder / f"{seed:03}.png"), part(seed, hole=hole))
    return folder


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "good", range(GOOD))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "part.lad"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine of GOOD parts."""
    folder = tmp_path_factory.mktemp("taught")
    assert teach("--source", write_folder(folder / "good", range(GOOD)), "-o", folder / "part.lad", "--quiet") == 0
    return folder / "part.lad"


def teach(*words: object) -> int:
    return main(["teach", *map(str, words)])


def test_a_folder_of_good_parts_becomes_an_engine_that_runs(good: Path, out: Path, tmp_path: Path, capfd: Show) -> None:
    assert teach("--source", good, "-o", out) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown[0].startswith(f"taught {GOOD} good parts, seen at 256 px: features ")
    assert shown[1].endswith(f"≤ 20 % of good parts are rejected, n = {GOOD}; ≤ 1 % needs {99 - GOOD} more good parts")
    assert shown[-1].endswith(f"next: lad-edge run --engine {out} --camera 0")
    bad = write_folder(tmp_path / "bad", range(100, 103), hole=True)
    assert main(["run", "--engine", str(out), "--source", str(bad)]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [record["verdict"] for record in records] == ["NG"] * 3


def test_one_json_document_tells_everything(good: Path, out: Path, tmp_path: Path, capfd: Show) -> None:
    bad = write_folder(tmp_path / "bad", range(100, 104), hole=True)
    assert teach("--source", good, "-o", out, "--bad", bad, "--name", "plate", "--json") == 0
    document = json.loads(capfd.readouterr().out)
    engine = bundles.read(out)
    assert engine.manifest.name == "plate"
    assert (document["path"], document["sha256"]) == (str(out), engine.sha256)
    assert (document["parts"], document["new_parts"]) == (GOOD, GOOD)
    assert (
        document["metrics"]
        == {"image_auroc_against_taught": 1.0, "bad_parts": 4, "bad_found": 4}
        == engine.manifest.metrics
    )
    assert document["threshold"] == next(iter(engine.manifest.calibrations.values())).threshold


def test_quiet_says_nothing(good: Path, out: Path, capfd: Show) -> None:
    assert teach("--source", good, "-o", out, "--quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_parts_are_left_out_by_name_and_get_names_of_their_own(good: Path, out: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", range(GOOD + 2))
    assert teach("--source", good, other, "--leave-out", "001.png", "other/007.png", "-o", out, "--quiet") == 0
    names = bundles.read(out).manifest.parameters["parts"]
    assert names == [f"{seed:03}.png" for seed in range(GOOD) if seed != 1] + [
        *(f"other/{seed:03}.png" for seed in (0, 2, 3, 4, 5, 6)),
        "008.png",
        "009.png",
    ]


def test_a_taught_engine_goes_on_in_place(taught: Path, out: Path, tmp_path: Path, capfd: Show) -> None:
    out.write_bytes(taught.read_bytes())
    more = write_folder(tmp_path / "more", range(5, 11))
    assert teach("--add", out, "--source", more, "-o", out, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["parts"], document["new_parts"]) == (GOOD + 6, 6)
    assert document["twins"] == [[f"{seed:03}.png", f"more/{seed:03}.png"] for seed in (5, 6, 7)]
    assert document["statement"] == f"≤ 10 % of good parts are rejected, n = {GOOD + 6}"


def test_a_policy_that_was_chosen_stays_when_parts_are_added(good: Path, out: Path, tmp_path: Path) -> None:
    assert teach("--source", good, "-o", out, "--policy", "conformal:30%", "--quiet") == 0
    more = write_folder(tmp_path / "more", range(20, 23))
    assert teach("--add", out, "--source", more, "-o", out, "--quiet") == 0
    policy = next(iter(bundles.read(out).manifest.calibrations.values())).policy
    assert (policy.name, policy.value, policy.n) == ("conformal", 0.3, GOOD + 3)


def test_a_video_gives_each_part_once(out: Path, tmp_path: Path, capfd: Show) -> None:
    video = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, SIZE)
    for seed in range(GOOD):
        for _ in range(3):  # the part stands still for three frames
            writer.write(part(seed))
    writer.release()
    assert teach("--source", video, "-o", out, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["parts"], document["repeated_frames"]) == (GOOD, 2 * GOOD)
    assert bundles.read(out).manifest.parameters["parts"] == [f"line.avi#{3 * seed + 1}" for seed in range(GOOD)]


def test_what_a_person_should_look_at_is_named(good: Path, out: Path, capfd: Show) -> None:
    cv2.imwrite(str(good / "odd.png"), part(50, hole=True))
    cv2.imwrite(str(good / "twin.png"), part(3))
    cv2.imwrite(str(good / "dark.png"), part(51) // 20)
    assert teach("--source", good, "-o", out) == 0
    shown = capfd.readouterr().out
    assert "too dark: dark.png" in shown
    assert "odd.png (score" in shown
    assert "the same part shown twice? 003.png = twin.png" in shown


def test_grey_pictures_can_be_asked_for(good: Path, out: Path, capfd: Show) -> None:
    assert teach("--source", good, "-o", out, "--pixel-format", "mono8", "--roi", "10,5,80,60") == 0
    contract = bundles.read(out).manifest.contract
    assert (contract.pixel_format, contract.roi) == ("mono8", (10, 5, 80, 60))
    assert capfd.readouterr().out.endswith("--camera 0 --pixel-format mono8\n")


def _truncated(folder: Path) -> None:
    (folder / "half.png").write_bytes((folder / "000.png").read_bytes()[:500])


def _other_size(folder: Path) -> None:
    cv2.imwrite(str(folder / "wide.png"), np.zeros((72, 97, 3), np.uint8))


def _sixteen_bit(folder: Path) -> None:
    cv2.imwrite(str(folder / "deep.png"), np.zeros((72, 96), np.uint16))


def _with_alpha(folder: Path) -> None:
    cv2.imwrite(str(folder / "clear.png"), np.zeros((72, 96, 4), np.uint8))


def _three_only(folder: Path) -> None:
    for path in sorted(folder.iterdir())[3:]:
        path.unlink()


def _all_one_picture(folder: Path) -> None:
    for path in sorted(folder.iterdir())[1:]:
        path.write_bytes((folder / "000.png").read_bytes())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncated, "1 of the pictures cannot be read: half.png: damaged PNG"),
        (_other_size, "wide.png: expected 96x72 bgr8"),
        (_sixteen_bit, "deep.png: expected 8-bit"),
        (_with_alpha, "clear.png: expected 8-bit"),
        (_three_only, "at least 5 good parts, 3 were shown"),
        (_all_one_picture, "all parts are the same picture"),
    ],
)
def test_pictures_that_cannot_be_taught_are_refused(
    good: Path, out: Path, capfd: Show, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(good)
    out.write_text("the engine that was there")
    assert teach("--source", good, "-o", out) == 2
    assert message in only_line(capfd)
    assert out.read_text() == "the engine that was there"


def test_unreadable_pictures_are_skipped_when_asked(good: Path, out: Path, capfd: Show) -> None:
    _truncated(good)
    assert teach("--source", good, "-o", out, "--skip-unreadable") == 0
    assert "left out, 1 that cannot be read: half.png: damaged PNG" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 1, "good parts are needed"),
        (("--source", "nowhere"), 5, "does not exist"),
        (("--camera", "4711", "--quiet"), 5, "/dev/video4711"),
        (("--camera", "front"), 5, "front does not exist"),
        (("--camera", "4711", "--good", "3"), 2, "ask for more: --good"),
        (("--camera", "4711", "--policy", "conformal:1%"), 2, "needs the scores of 99 good images"),
        (("--camera", "4711", "--source", "http://127.0.0.1:9/x"), 1, "one camera or stream"),
        (("--camera", "4711", "--every", "enter"), 1, "needs a terminal"),
        (("--camera", "4711", "--every", "soon"), 1, "50ms"),
        (("--source", "GOOD", "--good", "10"), 1, "--good counts the pictures of a camera"),
        (("--source", "GOOD", "--leave-out", "seven.png"), 1, "names what no source has: seven.png"),
        (("--source", "GOOD", "--roi", "50,0,47,10"), 1, "--roi 50,0,47,10 leaves the picture, which is 96x72"),
        (("--source", "GOOD", "--policy", "conformal:1%"), 2, "needs the scores of 99 good images"),
        (("--source", "GOOD", "--policy", "often"), 1, "a policy is written"),
        (("--source", "GOOD", "--backbone", "resnet"), 1, "efficientnet-lite0"),
        (("--source", "GOOD", "--precision", "f8"), 4, "f8"),
        (("--source", "GOOD", "--add", "nowhere.lad"), 4, "no such file"),
        (("--source", "GOOD", "--add", "GOOD/000.png"), 8, "E_BUNDLE"),
        (("--source", "GOOD", "--add", "TINY"), 1, "expected an engine made by 'lad-edge teach'"),
        (("--source", "GOOD", "--register", "60%"), 1, "a share of the picture's sides of at most 20 %"),
        (
            ("--source", "GOOD", "--register", "10%", "--roi", "2,2,80,60"),
            1,
            "--roi leaves 2 px and 2 px of the picture around it",
        ),
        (
            ("--source", "GOOD", "--add", "TAUGHT", "--roi", "0,0,9,9"),
            1,
            "leave --name, --roi, --mask and --register out",
        ),
        (("--source", "GOOD", "--add", "TAUGHT", "--mask", "GOOD/000.png"), 1, "leave --name, --roi, --mask and"),
        (("--source", "GOOD", "--mask", "nowhere.png"), 2, "nowhere.png"),
        (("--source", "GOOD", "--add", "TAUGHT", "--leave-out", "x.png"), 1, "names what no source has"),
        (("--camera", "4711", "--bad", "nowhere"), 5, "nowhere does not exist"),
        (("--source", "GOOD", "--bad", "http://127.0.0.1:9/x"), 1, "--bad takes folders"),
    ],
)
def test_wrong_words_are_refused_with_one_line_and_its_exit_code(
    good: Path,
    out: Path,
    taught: Path,
    tiny_bundle: Path,
    capfd: Show,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    places = {"GOOD": str(good), "TAUGHT": str(taught), "TINY": str(tiny_bundle)}
    words = tuple(places.get(word, word.replace("GOOD/", f"{good}/")) for word in words)
    assert teach(*words, "-o", out) == code
    assert message in only_line(capfd)
    assert not out.exists()


def test_what_a_mask_hides_is_no_defect(good: Path, out: Path, tmp_path: Path, capfd: Show) -> None:
    hole_hidden = np.full((SIZE[1], SIZE[0]), 255, np.uint8)
    cv2.circle(hole_hidden, (70, 36), 12, 0, -1)
    cv2.imwrite(str(tmp_path / "mask.png"), hole_hidden)
    bad = write_folder(tmp_path / "bad", range(4), hole=True)
    for words, found in (((), 4), (("--mask", tmp_path / "mask.png"), 0)):
        assert teach("--source", good, "--bad", bad, "--no-gates", *words, "-o", out, "--json") == 0
        assert json.loads(capfd.readouterr().out)["metrics"]["bad_found"] == found


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((72, 90), 255), "--mask is 90x72 px, the pictures are 96x72; draw it on one of them"),
        (np.full((72, 96), 100), "--mask leaves nothing to look at: white is looked at, black is not"),
    ],
)
def test_a_mask_that_does_not_fit_the_pictures_is_refused(
    good: Path, out: Path, tmp_path: Path, capfd: Show, mask: NDArray[np.int64], message: str
) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), mask.astype(np.uint8))
    assert teach("--source", good, "--mask", tmp_path / "mask.png", "-o", out) == 1
    assert message in only_line(capfd)
    assert not out.exists()


def test_a_part_of_the_engine_cannot_be_left_out(good: Path, out: Path, taught: Path, tmp_path: Path) -> None:
    more = write_folder(tmp_path / "more", range(20, 23))
    assert teach("--source", more, "--add", taught, "--leave-out", "003.png", "-o", out) == 1


def test_an_output_that_is_no_engine_is_refused(good: Path, capfd: Show) -> None:
    assert teach("--source", good, "-o", good / "000.png") == 1
    assert "ends in .lad" in only_line(capfd)
    assert read_image(good / "000.png").image.shape == part(0).shape


@pytest.mark.parametrize("place", ["nowhere/part.lad", "."])
def test_an_output_that_cannot_be_written_is_told_before_anything_is_shown(
    tmp_path: Path, capfd: Show, place: str
) -> None:
    assert teach("--camera", "4711", "-o", tmp_path / place) == 6
    assert "cannot be written" in only_line(capfd)


def test_a_bad_part_that_cannot_be_judged_is_named(good: Path, out: Path, tmp_path: Path, capfd: Show) -> None:
    bad = write_folder(tmp_path / "bad", range(2))
    _other_size(bad)
    assert teach("--source", good, "-o", out, "--bad", bad) == 2
    assert "--bad: wide.png cannot be judged" in only_line(capfd)
    assert not out.exists()


def only_line(capfd: Show) -> str:
    """Of an error; there is no traceback and no result."""
    shown = capfd.readouterr()
    (line,) = shown.err.splitlines()
    assert shown.out == ""
    assert line.startswith("lad-edge: error: ")
    return line


def test_a_stream_is_taught_and_its_pictures_are_kept(out: Path, capfd: Show) -> None:
    with serving(frames=1000, pause_s=0.02) as server:
        assert teach("--source", server.url, "--good", 6, "--every", "40ms", "-o", out) == 0
    shown = capfd.readouterr()
    assert "6 of 6: part-0006.png" in shown.err
    assert "secret" not in shown.err + shown.out
    names = [f"part-{number:04}.png" for number in range(1, 7)]
    assert sorted(path.name for path in out.with_name("part.parts").iterdir()) == names
    assert bundles.read(out).manifest.parameters["parts"] == names


def test_a_part_that_is_still_there_is_not_taken_again(out: Path, capfd: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [tiny.good_picture(number) for number in range(100)]
    monkeypatch.setattr(
        tiny, "good_picture", lambda number: pictures[number // 10]
    )  # each part stands for ten pictures
    with serving(frames=1000, pause_s=0.02) as server:
        assert teach("--source", server.url, "--good", 5, "--every", "40ms", "-o", out) == 0
    assert "the part of the last picture is still there: show another one" in capfd.readouterr().err
    taken = [read_image(path).image for path in sorted(out.with_name("part.parts").iterdir())]
    assert not any(np.array_equal(first, second) for first, second in pairwise(taken))


def test_a_stream_that_dies_says_where_the_pictures_lie_and_how_to_go_on(
    tmp_path: Path, out: Path, capfd: Show
) -> None:
    good = tmp_path / "good"
    good.mkdir()
    for seed in range(5):
        cv2.imwrite(str(good / f"{seed}.png"), tiny.good_picture(2000 + seed))
    words = (
        "--source",
        good,
        "--leave-out",
        "3.png",
        "--register",
        "20%",
        "--no-gates",
        "--threads",
        1,
        "--every",
        "20ms",
        "--good",
        200,
        "-o",
        out,
    )
    with serving(frames=12, pause_s=0.05) as server:
        threading.Thread(target=lambda: server.sent.wait() and server.release.set()).start()
        assert teach(*words, "--source", server.url) == 5
    error = capfd.readouterr().err.splitlines()[-1]
    folder = out.with_name("part.parts")
    taken = len(list(folder.iterdir()))
    assert taken >= 2
    assert f"delivers no more frames; {taken} of 200 pictures were taken and lie in {folder}; go on with: " in error
    assert "secret" not in error
    assert not out.exists()
    command = shlex.split(error.partition("go on with: ")[2])
    assert command[:5] == ["lad-edge", "teach", "--source", str(folder), str(good)]
    assert command[command.index("--good") + 1] == str(200 - taken)
    with serving(frames=1000, pause_s=0.02) as server:
        words_to_go_on = [server.url if "***" in word else word for word in command[2:]]
        words_to_go_on[words_to_go_on.index("--good") + 1] = "2"
        assert teach(*words_to_go_on) == 0
    assert len(list(folder.iterdir())) == taken + 2
    manifest = bundles.read(out).manifest
    assert len(manifest.parameters["parts"]) == taken + 2 + 4  # type: ignore[arg-type]
    assert manifest.gates is None
    assert manifest.registration is not None


def test_pictures_of_another_lesson_are_left_alone(good: Path, out: Path, capfd: Show) -> None:
    kept = out.with_name("part.parts")
    kept.mkdir()
    (kept / "part-0001.png").write_bytes((good / "000.png").read_bytes())
    with serving(frames=1000, pause_s=0.02) as server:
        live = ("--source", server.url, "--good", 5, "--every", "20ms", "-o", out)
        assert teach(*live, "--keep", kept) == 1
        assert "holds pictures of another lesson" in only_line(capfd)
        assert teach(*live) == 0
    assert len(list(kept.iterdir())) == 1
    assert len(list(out.with_name("part.parts-2").iterdir())) == 5


def test_a_stream_of_other_pictures_than_the_folder_is_refused(out: Path, good: Path, capfd: Show) -> None:
    with serving(frames=1000, pause_s=0.02) as server:
        assert teach("--source", good, server.url, "--every", "20ms", "-o", out, "--quiet") == 2
    assert "part-0001.png: expected 96x72 bgr8 as the first part has, came 64x48" in only_line(capfd)
    assert not out.with_name("part.parts").exists()


def test_a_signal_ends_the_taking_and_says_how_to_go_on(out: Path) -> None:
    with (
        serving(frames=1000, pause_s=0.02) as server,
        running("teach", "--source", server.url, "--every", "40ms", "--good", 500, "-o", out) as process,
    ):
        wait_for(process, "3 of 500")
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "go on with: lad-edge teach --source" in errors
    assert errors.endswith("lad-edge: error: interrupted\n")
    assert shown == ""
    assert not out.exists()
    for path in out.with_name("part.parts").iterdir():
        assert read_image(path).image.shape == (48, 64, 3)


def test_a_signal_while_the_stream_opens_ends_the_process(out: Path) -> None:
    with serving(frames=0) as server, running("teach", "--source", server.url, "-o", out) as process:
        wait_for(process, "taking 25 pictures")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "no picture was taken yet" in errors


def test_each_enter_takes_one_picture(out: Path) -> None:
    terminal, stdin = os.openpty()
    with (
        serving(frames=1000, pause_s=0.02) as server,
        running("teach", "--source", server.url, "--every", "enter", "--good", 5, "-o", out, stdin=stdin) as process,
    ):
        wait_for(process, "one at each Enter")
        for number in range(1, 6):
            os.write(terminal, b"\n")
            wait_for(process, f"{number} of 5")
        shown, errors = process.communicate(timeout=60)
    os.close(terminal)
    os.close(stdin)
    assert process.returncode == 0, errors
    assert "taught 5 good parts" in shown


def test_teaching_needs_no_torch(good: Path, out: Path, tmp_path: Path) -> None:
    bad = write_folder(tmp_path / "bad", range(2), hole=True)
    program = (
        "import sys; from lad_edge.cli import main; code = main()\n"
        "assert not {'torch', 'onnx', 'onnxscript', 'matplotlib', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(code)"
    )
    words = ["teach", "--source", str(good), "--bad", str(bad), "-o", str(out)]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_small_pictures_of_the_parts_stay_out_if_asked(good: Path, out: Path, taught: Path) -> None:
    assert "taught/thumbnails" in bundles.read(taught).tensors
    assert teach("--source", good, "-o", out, "--no-thumbnails", "--quiet") == 0
    assert not [name for name in bundles.read(out).tensors if "thumbnail" in name]
