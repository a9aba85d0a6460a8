"""A configuration file says what the command line says, in the same words."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from lad_edge.cli.config import MOST_BYTES, read_config
from lad_edge.errors import UsageError


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", action="append")
    parser.add_argument("--quiet", action="store_true")
    return parser


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "line.toml"


def parsed(parser: argparse.ArgumentParser, path: Path, text: str) -> list[argparse.Namespace]:
    path.write_text(text)
    return [parser.parse_args(words) for words in read_config(path, parser)]


def test_keys_are_the_options(parser: argparse.ArgumentParser, written: Path) -> None:
    text = '# the line\nengine = "a b.lad"\nthreads = 2\nout = ["x.jsonl", "--odd"]\nquiet = true\n'
    (args,) = parsed(parser, written, text)
    assert vars(args) == {"engine": "a b.lad", "threads": 2, "out": ["x.jsonl", "--odd"], "quiet": True}


def test_each_camera_has_what_all_have_and_its_own(parser: argparse.ArgumentParser, written: Path) -> None:
    text = 'engine = "a.lad"\nquiet = true\n[[camera]]\n[[camera]]\nengine = "b.lad"\nquiet = false\n'
    first, second = parsed(parser, written, text)
    assert (first.engine, first.quiet, second.engine, second.quiet) == ("a.lad", True, "b.lad", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enginee = 'a'", "'enginee' is no setting; did you mean 'engine'?"),
        ("[[camera]]\nzzz = 1", "'zzz' is no setting; there are camera, engine, out, quiet, threads"),
        ("help = true", "'help' is no setting"),
        ("quiet = 'yes'", "'quiet' is true or false, came 'yes'"),
        ("threads = true", "'threads' takes a text or a number, came True"),
        ("threads = [1, 2]", "'threads' takes one value, came a list of 2"),
        ("engine = {a = 1}", "'engine' takes a text or a number"),
        ("camera = 'top'", "as tables under [[camera]]"),
        ("camera = []", "at least one"),
        ("engine = ", "is no TOML"),
        ("engine = 'a'\nengine = 'b'", "is no TOML"),
        ("#" * (MOST_BYTES + 1), "a configuration has at most"),
    ],
)
def test_what_is_wrong_is_named(parser: argparse.ArgumentParser, written: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(parser, written, text)
    assert message in str(caught.value)


def test_bytes_that_are_no_text(parser: argparse.ArgumentParser, written: Path) -> None:
    written.write_bytes(b"engine = '\xff'")
    with pytest.raises(UsageError, match="is no TOML"):
        read_config(written, parser)


def test_a_missing_file(parser: argparse.ArgumentParser, written: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_config(written, parser)
