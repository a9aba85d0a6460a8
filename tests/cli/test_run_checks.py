"""`lad-edge run --check`: what is wrong is said before the line is needed, and nothing is opened."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lad_edge.cli import main

Show = pytest.CaptureFixture[str]


def check(engine: Path, *words: str) -> int:
    return main(["run", "--engine", str(engine), "--camera", "pattern://64x48", *words, "--check"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plc", "modbus://127.0.0.1:15o2"], "--plc modbus://127.0.0.1:15o2: "),
        (["--plc", "modbus://127.0.0.1?unti=2"], "came 'unti': did you mean unit?"),
        (["--plc", "opcua://0.0.0.0:4840"], "it needs ?users=FILE"),
        (["--plc", "opcua://127.0.0.1", "--plc", "modbus://127.0.0.1"], "the first --plc triggers the line"),
        (["--out", "images:x?quota=abc"], "a size such as 20GB for quota; came 'abc'"),
        (["--out", "sqlite:x?keep=3"], "a time such as 30d or 5s for keep; came '3'"),
        (["--out", "csv:x?rotate=3"], "a size such as 20GB for rotate; came '3'"),
        (["--out", "mqtts://broker/x?ca=absent.pem"], "check ca, cert and key"),
        (["--out", "https://host/x?secret-file=absent"], "secret-file absent cannot be read"),
        (["--out", "csv:x", "--out", "csv:x"], "names csv:x twice"),
        (["--dashboard", "0.0.0.0:8600"], "--dashboard 0.0.0.0:8600: others can reach this address"),
        (["--dashboard", ":8600", "--dashboard-cert", "absent.pem"], "its certificate"),
        (["--shadow-out", "x"], "give an engine with --shadow"),
        (["--trigger", "http://127.0.0.1:8601", "--token-file", "absent"], "--token-file absent cannot be read"),
    ],
)
def test_what_is_wrong_with_the_words_is_said(words: list[str], message: str, tiny_bundle: Path, capsys: Show) -> None:
    assert check(tiny_bundle, *words) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "f64"], "not for f64"),
        (["--runtime", "onnxruntime", "--precision", "bf16"], "bf16"),
        (["--runtime", "tensorrt"], "tensorrt runs plans"),
    ],
)
def test_what_the_engine_cannot_do_is_said(words: list[str], message: str, tiny_bundle: Path, capsys: Show) -> None:
    assert check(tiny_bundle, *words) == 4
    assert message in capsys.readouterr().err


def test_an_engine_on_trial_that_is_not_there_is_named(tiny_bundle: Path, capsys: Show) -> None:
    assert check(tiny_bundle, "--shadow", "absent.lad") != 0
    assert "absent.lad: no such file" in capsys.readouterr().err


def test_nothing_is_opened(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, ports and receivers: they may be in use by the line that runs."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["sqlite:a.sqlite", "csv:a.csv", "jsonl:a.jsonl", "a.jsonl", "images:a", f"mqtt://127.0.0.1:{port}/x"]
        outputs = [word for text in words for word in ("--out", text)]
        page = ["--dashboard", f":{port}", "--metrics", f":{port}", "--plc", f"modbus://127.0.0.1:{port}"]
        assert check(tiny_bundle, *outputs, *page) == 0
    assert list(tmp_path.iterdir()) == []
