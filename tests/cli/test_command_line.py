"""The command line itself: exit codes, one-line errors, verbs that are imported only when they are used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lad_edge import cli, errors
from lad_edge.cli import main


def stderr_line(capfd: pytest.CaptureFixture[str]) -> str:
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("lad-edge: error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["run"], "--engine"),
        (["run", "--engine", "x.lad"], "names no source: lad-edge run --engine X.lad --camera 0"),
        (["run", "--engine", "x.lad", "--camera", "0", "--source", "x"], "not allowed with"),
        (["run", "--engine", "x.lad", "--camera", "0", "--deadline", "50"], "50ms or 1s"),
        (["run", "--engine", "x.lad", "--camera", "0", "--threshold", "nan"], "finite number"),
        (["run", "--engine", "x.lad", "--camera", "0", "--threads", "0"], "at least 1"),
        (["run", "--engine", "x.lad", "--camera", "0", "--fps", "-1"], "above 0"),
        (["run", "--engine", "x.lad", "--camera", "0", "--save", "maybe"], "ng,unknown,ok"),
        (["bench", "x.lad", "--size", "12"], "1280x1024"),
        (["bench", "x.lad", "--interval", "soon"], "50ms or 1s"),
        (["calibrate", "x.lad", "--policy", "max"], "conformal:1%"),
        (["info"], "X.lad"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_code_1(
    capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(words) == 1
    assert message in stderr_line(capfd)


def test_a_missing_engine_is_exit_code_4(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "nowhere.lad"]) == 4
    assert "nowhere.lad" in stderr_line(capfd)


def test_a_foreign_engine_is_exit_code_8(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.lad").write_bytes(b"PK\x03\x04" + bytes(100))
    assert main(["run", "--engine", str(tmp_path / "x.lad"), "--camera", "0"]) == 8
    assert "E_BUNDLE_" in stderr_line(capfd)


def test_a_traceback_comes_only_with_debug(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "nowhere.lad", "--debug"]) == 4
    assert "Traceback" in capfd.readouterr().err


def test_an_internal_error_is_one_line_that_asks_for_a_report(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    from lad_edge.cli import info

    def broken(_bundle: object) -> object:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(info, "document", broken)
    assert main(["info", str(tiny_bundle), "--json"]) == 1
    assert "RuntimeError: two lines; run again with --debug" in stderr_line(capfd)


def test_an_interrupt_is_no_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    from lad_edge.cli import info

    def interrupted(_bundle: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "document", interrupted)
    assert main(["info", str(tiny_bundle), "--json"]) == 130
    assert "interrupted" in stderr_line(capfd)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"]])
def test_help_is_exit_code_0(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 0
    assert "lad-edge" in capfd.readouterr().out


def test_without_a_verb_the_help_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "start here" in capfd.readouterr().out


def test_every_exit_code_of_the_errors_is_in_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = {int(code) for code in re.findall(r"^ *(\d)  |  (\d)  ", capfd.readouterr().out) for code in code if code}
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {kind.exit_code for kind in classes if issubclass(kind, errors.LadEdgeError)} <= shown


@pytest.mark.parametrize("verb", ["run", "demo", "calibrate", "build", "info", "unpack", "bench", "doctor"])
def test_every_edge_verb_teaches_and_speaks_json_without_torch(verb: str) -> None:
    program = (
        "import sys; from lad_edge.cli import main\n"
        f"assert main(['{verb}', '--help']) == 0\n"
        "assert not {'torch', 'onnx'} & set(sys.modules), sorted(sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "--json" in shown
    assert len(shown.splitlines()) >= 10


def test_a_missing_training_package_names_the_extra(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "needs_torch.py").write_text("import torch\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(cli.VERBS, "train", ("needs_torch", "train"))
    assert main(["train"]) == 1
    assert "'train' needs torch, which is not installed; pip install 'lad-edge[train]'" in stderr_line(capfd)


def test_a_reader_that_has_seen_enough_is_no_error(tiny_bundle: Path) -> None:
    program = f"import sys; from lad_edge.cli import main; sys.exit(main(['info', {str(tiny_bundle)!r}]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()  # before anything was written
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(60) == 0
    process.stderr.close()
