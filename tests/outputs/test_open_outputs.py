"""What --out opens together: an outbox, deliveries and pictures, and that nothing stays open when one of them fails."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from outbox_samples import ORIGIN, RESULT, frame, open_outbox, quiet, results, stored

from lad_edge.errors import SinkError, UsageError
from lad_edge.outputs.opening import open_outputs
from lad_edge.stream.records import safe_id


def test_records_reach_every_output_before_the_end(tmp_path: Path) -> None:
    words = [f"sqlite:{tmp_path / 'r.sqlite'}?reserve=0B", f"csv:{tmp_path / 'r.csv'}", f"jsonl:{tmp_path / 'r.jsonl'}"]
    outputs = open_outputs(words, ORIGIN, quiet)
    for result in results(1, 500):
        outputs.sinks[0].write(frame(), result)
    outputs.close()
    assert len(stored(tmp_path / "r.sqlite")) == 500
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 501
    assert [json.loads(line)["seq"] for line in (tmp_path / "r.jsonl").read_text().splitlines()] == list(range(1, 501))


def test_a_file_that_was_lost_is_written_again_from_the_outbox(tmp_path: Path) -> None:
    outputs = open_outputs([f"sqlite:{tmp_path / 'r.sqlite'}?reserve=0B"], ORIGIN, quiet)
    for result in results(1, 50):
        outputs.sinks[0].write(frame(), result)
    outputs.close()
    open_outputs(
        [f"sqlite:{tmp_path / 'r.sqlite'}?reserve=0B", f"jsonl:{tmp_path / 'again.jsonl'}?from=start"], ORIGIN, quiet
    ).close()
    assert len((tmp_path / "again.jsonl").read_text().splitlines()) == 50


def test_without_sqlite_the_outbox_lives_in_the_state_folder_and_a_person_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    heard: list[str] = []
    outputs = open_outputs([f"csv:{tmp_path / 'r.csv'}"], ORIGIN, heard.append)
    outputs.sinks[0].write(frame(), RESULT)
    outputs.close()
    assert len(stored(tmp_path / "state" / "camera0.sqlite")) == 1
    assert "records are kept in" in heard[0]


def test_a_path_may_name_the_camera_so_that_several_share_their_words(tmp_path: Path) -> None:
    words = [f"sqlite:{tmp_path}/{{camera}}.sqlite?reserve=0B", f"csv:{tmp_path}/{{device}}-{{camera}}.csv"]
    lines = [open_outputs(words, replace(ORIGIN, camera_id=camera), quiet) for camera in ("top", "../side")]
    for outputs in lines:
        outputs.close()
    ids = ["top", safe_id("../side")]
    names = sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".sqlite", ".csv"))
    assert names == sorted([f"{name}.sqlite" for name in ids] + [f"box-1-{name}.csv" for name in ids])


def test_pictures_alone_need_no_outbox_and_number_on(tmp_path: Path) -> None:
    (tmp_path / "camera0" / "2025-11-24").mkdir(parents=True)
    (tmp_path / "camera0" / "2025-11-24" / "000000000041_NG.png").write_bytes(b"x")
    outputs = open_outputs([f"images:{tmp_path}"], ORIGIN, quiet)
    assert outputs.outbox is None
    assert outputs.next_seq == 42
    outputs.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["csv:{0}/a.csv", "csv:{0}/a.csv"], "twice"),
        (["sqlite:{0}/a.db", "sqlite:{0}/b.db"], "one sqlite"),
        (["csv:{0}/a.csv?from=yesterday"], "from=now, start"),
        (["csv:{0}/a.csv", "mqtt://host/+"], "topic"),
    ],
)
def test_words_that_cannot_be_meant_leave_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    with pytest.raises(UsageError, match=said):
        open_outputs([word.format(tmp_path) for word in words], ORIGIN, quiet)
    open_outbox(tmp_path / "camera0.sqlite").close()  # nobody holds it


def test_an_outbox_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file"):
        open_outputs([f"sqlite:{tmp_path / 'nowhere' / 'r.sqlite'}"], ORIGIN, quiet)


def test_a_missing_package_is_told_with_the_command_that_installs_it() -> None:
    program = (
        "import sys; sys.modules['paho'] = None\n"
        "from lad_edge.outputs.opening import open_outputs; from lad_edge.stream.records import Origin\n"
        "open_outputs(['mqtt://127.0.0.1/x'], Origin('a', 'b', 'c'), print)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingDependencyError: mqtt:// needs paho-mqtt; pip install 'lad-edge[mqtt]'" in ended.stderr
