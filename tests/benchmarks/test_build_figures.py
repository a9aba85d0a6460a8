"""The figures of `lad-edge build` are those of real engines, whose f16 was proven on the golden frames first."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from gpu_needs import needs_rtx


@needs_rtx
def test_each_precision_is_built_for_each_gpu_and_for_all(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import build

    words = [str(tiny_bundle), "--builds", "2", "--json", str(tmp_path / "build.json")]
    monkeypatch.setattr(sys, "argv", ["build", *words])
    build.main()
    assert "engines MiB" in capsys.readouterr().out
    built = json.loads((tmp_path / "build.json").read_text())["built"]
    assert [(one["precision"], one["gpus"]) for one in built] == [
        (precision, gpus) for precision in ("f32", "f16") for gpus in (*build.GPUS, " ".join(build.GPUS))
    ]
    for one in built:
        assert one["engines_mib"] > 0
        assert one["slowest_s"] >= one["median_s"] >= 0
        assert (one["golden_error"] is None) == (one["precision"] == "f32")
