"""Figures and tables of the benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import about, percentiles, table, write


def test_percentiles_of_known_samples() -> None:
    found = percentiles(range(101), scale=2.0)
    assert found == {"p50": 100.0, "p95": 190.0, "p99": 198.0, "max": 200.0, "calls": 101}


def test_a_table_is_markdown_with_a_cell_for_each_head() -> None:
    lines = table("title", ("", "p50", "max"), [["ours", 0.8444, 13.94], ["the other one", 7, ""]]).splitlines()
    assert lines[1] == "title"
    assert lines[3:] == [
        "|               |   p50 |  max |",
        "|---------------|------:|-----:|",
        "| ours          | 0.844 | 13.9 |",
        "| the other one |     7 |      |",
    ]


def test_a_document_names_machine_versions_and_date(tmp_path: Path) -> None:
    write(tmp_path / "new" / "figures.json", about(cases=[1]))
    document = json.loads((tmp_path / "new" / "figures.json").read_text())
    assert document["machine"]["cpu"]
    assert document["versions"]["numpy"]
    assert document["date"].endswith("UTC")
    assert document["cases"] == [1]


def test_what_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "figures.json", {"p50": float("nan")})
