"""Wrong use of the verbs that train: one line that says what was expected, what came and what to do; no traceback."""

import sys

import pytest

from lad_edge.cli import main

pytestmark = pytest.mark.torch


def failed(capsys, *words):
    """Exit code and the one line on stderr."""
    code = main([str(word) for word in words])
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("lad-edge: error: ")
    assert not any("Traceback" in line for line in lines)
    return code, lines[-1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "dfsc"], 1, "--data"),
        (["train", "fastflow", "--data", "x"], 1, "invalid choice: 'fastflow'"),
        (["train", "dfsc", "--data", "{tmp}/absent"], 2, "absent"),
        (["train", "dfsc", "--data", "{tmp}"], 2, "{tmp}"),
        (["train", "dfsc", "--data", "{tmp}", "--roi", "1,2,3"], 1, "X,Y,WIDTH,HEIGHT"),
        (["train", "dfsc", "--data", "{tmp}", "--steps", "0"], 1, "at least 1"),
        (["train", "dfsc", "--data", "{tmp}", "--lr", "nan"], 1, "finite number"),
        (["train", "dfsc", "--data", "{tmp}", "--size", "xs", "--side", "200"], 1, "multiple of 64"),
        (["train", "dfsc", "--data", "{tmp}", "--device", "cuda"], 1, "no CUDA device"),
        (["train-teacher", "--photographs", "{tmp}", "--out", "{tmp}/t.safetensors"], 2, "at least 16 photographs"),
        (["export", "{tmp}"], 2, "expected a run folder"),
        (["eval", "{tmp}"], 2, "expected a run folder"),
        (["eval", "{tmp}/x.lad"], 1, "pass --data"),
    ],
)
def test_wrong_words_give_one_line_and_the_documented_exit_code(tmp_path, capsys, words, code, message):
    found, line = failed(capsys, *(word.format(tmp=tmp_path) for word in words))
    assert found == code
    assert message.format(tmp=tmp_path) in line


@pytest.mark.parametrize("verb", ["train", "train-teacher", "eval", "export"])
def test_help_teaches_with_examples(capsys, verb):
    assert main([verb, "--help"]) == 0
    assert "examples:" in capsys.readouterr().out


def test_without_torch_the_command_that_installs_it_is_named(tmp_path, capsys, monkeypatch):
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "torch" or name.startswith("lad_edge.training")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, line = failed(capsys, "train", "dfsc", "--data", tmp_path)
    assert code == 1
    assert "pip install 'lad-edge[train]'" in line
