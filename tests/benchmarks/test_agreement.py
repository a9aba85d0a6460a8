"""Torch against the edge half on the test images of a run: a tiny one, trained and exported for real."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from lad_edge.export.export import ExportOptions, export_run

from benchmarks.agreement import main
from lad_edge import bundle
from lad_edge.backbones.pdn import PDN_SIZES, Pdn
from lad_edge.datasets.synthetic import generate
from lad_edge.training.checkpoint import save_tensors
from lad_edge.training.fit import FitOptions, fit

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("agreement")
    generate(root, seed=1, train=24, validation=8, test_good=12, logical=12, structural=12, width_px=160)
    torch.manual_seed(0)
    teacher = root / "teacher.safetensors"
    save_tensors(teacher, Pdn(PDN_SIZES["xs"]).state_dict(), {"kind": "teacher"})
    options = FitOptions(teacher=teacher, quiet=True, device="cpu")
    fit("dfsc", root / "kit_tray", root / "run", {"size": "xs", "steps": 6, "learning_rate": 1e-3}, options)
    only_f32 = ExportOptions(policy="conformal:20%", precisions=("f32",), test=False)
    export_run(root / "run", root / "part.lad", only_f32)
    return root


def test_an_engine_agrees_with_its_run_on_all_test_images(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(run / "run"), str(run / "part.lad"), "--json", str(run / "agreement.json")]
    (found,) = main(words)
    assert found.parity.images == found.parity.verdicts_equal == 36
    assert found.parity.holds
    assert "| dfsc " in capsys.readouterr().out
    (stated,) = json.loads((run / "agreement.json").read_text())["engines"]
    assert stated["holds"]
    assert stated["run"] == "run"
    assert stated["parity"]["max_relative_error"] == found.parity.max_relative_error
    assert stated["engine_sha256"] == bundle.read(run / "part.lad").sha256


def test_an_engine_with_other_weights_is_found_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = bundle.read(run / "part.lad")
    (graph,) = opened.manifest.graphs.values()
    model = onnx.load_from_string(bytes(opened.tensors[graph.tensor]))
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    largest.raw_data = (np.frombuffer(largest.raw_data, np.float32) * np.float32(1.05)).tobytes()
    spoilt = np.frombuffer(model.SerializeToString(), np.uint8)
    bundle.write(run / "spoilt.lad", replace(opened.manifest, tensors={}), {**opened.tensors, graph.tensor: spoilt})
    (run / "others.json").write_text('{"engines": [{"run": "before"}, {"run": "run", "holds": true}]}')
    (found,) = main([str(run / "run"), str(run / "spoilt.lad"), "--json", str(run / "others.json")])
    assert not found.parity.holds
    assert " NO |" in capsys.readouterr().out
    before, stated = json.loads((run / "others.json").read_text())["engines"]
    assert before == {"run": "before"}
    assert not stated["holds"]


def test_a_run_without_an_engine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run"])
    assert "expected an engine behind each run folder" in capsys.readouterr().err
