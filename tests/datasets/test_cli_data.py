"""`lad-edge data`: what it prints and the codes it returns."""

from __future__ import annotations

import json
import subprocess
import sys

from dataset_samples import photo, save

from lad_edge.cli import main
from lad_edge.datasets import LAYOUTS, open_dataset


def test_check_returns_0_when_nothing_is_found(folder, capsys):
    assert main(["data", "check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "layout folder, 96x64 bgr8 (12)" in out
    assert out.endswith("nothing found\n")


def test_check_returns_2_and_names_the_files(folder, capsys):
    save(folder / "copy.png", photo(0))
    assert main(["data", "check", str(folder)]) == 2
    out = capsys.readouterr().out
    assert "duplicate: the same pixels; keep one" in out
    assert "    copy.png" in out


def test_check_json_is_one_document(folder, capsys):
    save(folder / "copy.png", photo(0))
    assert main(["data", "check", str(folder), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["images"]["train"] == {"good": 13}
    assert [(f["kind"], f["paths"]) for f in report["findings"]] == [("duplicate", ["00.png", "copy.png"])]


def test_many_files_are_cut_short_in_text(folder, capsys):
    for i in range(12):
        save(folder / f"copy{i}.png", photo(0))
    main(["data", "check", str(folder)])
    assert "and 5 more; --json lists all" in capsys.readouterr().out


def test_missing_empty_and_single_are_one_line_and_code_2(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    save(tmp_path / "one" / "a.png", photo(1))
    for name, message in (("gone", "found nothing"), ("empty", "found neither"), ("one", "at least 2 images")):
        assert main(["data", "check", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_check_offers_every_layout(folder, capsys):
    assert main(["data", "check", str(folder), "--layout", "coco"]) == 1
    offered = capsys.readouterr().err
    assert all(layout in offered for layout in LAYOUTS)


def test_synth_writes_a_data_set(tmp_path, capsys):
    counts = ["--train=2", "--validation=1", "--test-good=0", "--logical=1", "--structural=1"]
    assert main(["data", "synth", str(tmp_path), "--seed=3", "--width=160", "--format=jpg", *counts, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(open_dataset(told["folder"]).records) == 5
    assert main(["data", "synth", str(tmp_path), *counts]) == 2
    assert "expected an empty or new folder" in capsys.readouterr().err


def test_the_data_room_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import lad_edge.datasets, lad_edge.datasets.check, "
        "lad_edge.datasets.synthetic_video, lad_edge.cli.data"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
