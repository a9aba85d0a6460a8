"""The benchmark of teaching, with few and small pictures."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks import teach
from benchmarks.peer import PICTURES
from lad_edge import bundle as bundles

SIZE = (48, 64, 3)


@pytest.fixture
def work(tmp_path):
    rng = np.random.default_rng(0)
    for count in (6, PICTURES):
        np.save(tmp_path / f"frames_{count}.npy", rng.integers(0, 255, (count, *SIZE), dtype=np.uint8))
    return tmp_path


def test_it_teaches_judges_and_writes_what_it_found(work, monkeypatch, capsys):
    monkeypatch.setattr(teach, "available", lambda: {teach.default_runtime(): ("f32",)})
    words = ["--parts", "6", "--side", "128", "--threads", "1", "--rounds", "1", "--seconds", "0.05"]
    monkeypatch.setattr(sys, "argv", ["teach", *words, "--work", str(work), "--json", str(work / "found.json")])
    teach.main()
    found = json.loads((work / "found.json").read_text())
    (lesson,) = found["lessons"]
    assert lesson["side_px"] == bundles.read(work / "taught_6_f32.lad").manifest.contract.size[0] == 128
    assert (lesson["parts"], lesson["precision"]) == (6, "f32")
    assert lesson["fit_s"] > 0
    assert found["latency_ms"]["taught from 6, f32"]["calls"] >= 1
    assert "Frame to verdict, 1 threads, ms" in capsys.readouterr().out
