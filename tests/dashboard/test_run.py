"""`lad-edge run --dashboard`: the page of a real line, from the words of the command line on."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from background import running
from page_samples import first, viewing

from lad_edge.cli.run_words import parse_run
from lad_edge.cli.watching import open_dashboard
from lad_edge.errors import UsageError

ADDRESS = re.compile(r"the operator's page: http://127\.0\.0\.1:(\d+)")


def test_a_running_line_shows_its_parts_with_maps_and_its_outputs(tiny_bundle: Path, tmp_path: Path) -> None:
    words = (
        "run",
        "--engine",
        tiny_bundle,
        "--camera",
        "pattern://64x48?fps=20",
        "--out",
        f"sqlite:{tmp_path / 'r.sqlite'}",
    )
    with running(*words, "--quiet", "--dashboard", "127.0.0.1:0") as process:
        assert process.stderr is not None
        port = next(int(found[1]) for line in process.stderr if (found := ADDRESS.search(line)))
        with viewing(port) as take:
            part = first(take, "part")
            assert part.head["camera"] == "camera"
            assert part.picture
            assert part.heat
            state = first(
                take, "state", lambda head: head["outputs"] and head["verdicts"] != {"OK": 0, "NG": 0, "UNKNOWN": 0}
            ).head
            assert state["about"]["source"] == "pattern"
            assert state["outputs"][0]["name"].startswith("sqlite:")
            assert not state["lost"]


def told(*words: str) -> list[argparse.Namespace]:
    return [parse_run(["--engine", "x.lad", "--camera", "0", *words])]


def test_a_token_that_is_short_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    for file, why in (("token", "16 ASCII characters"), ("nothing", "cannot be read")):
        words = ("--dashboard", "0.0.0.0:0", "--dashboard-token-file", str(tmp_path / file))
        with pytest.raises(UsageError, match=why), open_dashboard(told(*words), print):
            pass


def test_without_a_token_the_page_is_for_this_machine_alone() -> None:
    with (
        pytest.raises(UsageError, match="--dashboard-token-file"),
        open_dashboard(told("--dashboard", "0.0.0.0:0"), print),
    ):
        pass


def test_two_cameras_have_one_page() -> None:
    with (
        pytest.raises(UsageError, match="one page"),
        open_dashboard([*told("--dashboard", ":0"), *told("--dashboard", ":8601")], print),
    ):
        pass


@pytest.mark.parametrize("hours", ["", "24", "6,x", "-1"])
def test_hours_that_no_day_has_are_refused(hours: str) -> None:
    with pytest.raises(UsageError, match="hours of the day"):
        told(f"--dashboard-shifts={hours}")
