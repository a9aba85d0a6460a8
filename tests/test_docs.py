"""README and docs/ say what lad-edge takes: each command as it stands there, a page for each source and output, with its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trustme

from lad_edge.cli import VERBS, main, parser_for
from lad_edge.outputs.address import SCHEMES as OUTPUTS
from lad_edge.plc.uri import OPTIONS as BUSES
from lad_edge.sources.uri import SCHEMES as SOURCES

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "lad_edge" / "assets" / "demo.lad"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Page → the schemes that it is about.
SOURCE_PAGES = {
    "v4l2": ("v4l2",),
    "genicam": ("genicam",),
    "rtsp": ("rtsp", "rtsps"),
    "http": ("http", "https"),
    "gst": ("gst",),
    "dir": ("dir",),
    "file": ("file",),
    "pattern": ("pattern",),
}
OUTPUT_PAGES = {
    "sqlite": ("sqlite",),
    "jsonl": ("jsonl",),
    "csv": ("csv",),
    "images": ("images",),
    "mqtt": ("mqtt", "mqtts"),
    "webhook": ("http", "https"),
    "modbus": ("modbus",),
    "opcua": ("opcua",),
}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_OPTIONS_CELL = re.compile(r"^\| (`[a-z-]+=[^|]*)\|", re.MULTILINE)  # the first of a row
_OPTION = re.compile(r"`([a-z-]+)=")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def commands() -> Iterator[tuple[str, str]]:
    """Page and line of each lad-edge command in a console block."""
    for page in PAGES:
        for language, block in _BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines() if language == "console" else ():
                text = line.removeprefix("$ ").removeprefix("sudo ")
                if text.startswith("lad-edge "):
                    yield page.relative_to(ROOT).as_posix(), text


def words_of(line: str) -> list[str]:
    """Up to a pipe; `…` stands for the words of the line before."""
    words = shlex.split(line, comments=True)[1:]
    ends = [number for number, word in enumerate(words) if word in ("|", ">", "&&", "&")]
    words = [word for word in words[: ends[0] if ends else None] if word != "…"]
    if words[0] == "run" and not {"--engine", "-c"} & set(words):
        words[1:1] = ["--engine", "part.lad"]
    if words[0] == "run" and not {"--camera", "--source", "-c"} & set(words):
        words[1:1] = ["--camera", "genicam://" if "line:" in line else "pattern://"]
    return words


@pytest.fixture(scope="module")
def pem() -> bytes:
    """A certificate and its key."""
    return bytes(trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes())


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_a_command_is_taken_as_it_stands(
    page: str,
    line: str,
    pem: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = words_of(line)
    parser_for(words).parse_args(words)  # raises UsageError
    if words[0] != "run" or "-c" in words:
        return
    monkeypatch.chdir(tmp_path)
    make_what_it_names(words, pem)
    assert main([*words, "--check"]) == 0, f"{page}: {line}\n{capsys.readouterr().err}"


def make_what_it_names(words: list[str], pem: bytes) -> None:
    """Engines, certificates, passwords and sources that are read, in the current folder."""
    text = " ".join(words)
    for name in re.findall(r"[\w./-]+\.(?:lad|plan)\b", text):
        Path(name).write_bytes(DEMO.read_bytes())
    for name in re.findall(r"[\w./-]+\.pem\b", text):
        Path(name).write_bytes(pem)
    for name in re.findall(r"(?:-file |-file=|users=)([\w./-]+)", text):
        Path(name).write_text("operator:a-password-of-some-length")
        Path(name).chmod(0o600)
    for name in re.findall(r"trust=([\w./-]+)", text):
        Path(name).mkdir()
        Path(name, "client.pem").write_bytes(pem)
    for name in re.findall(r"--source ([\w./-]+)(?: |$)", text):
        picture = Path(name) if Path(name).suffix else Path(name) / "1.png"
        picture.parent.mkdir(exist_ok=True)
        picture.touch()


@pytest.mark.parametrize(
    "block", [block for page in PAGES for name, block in _BLOCK.findall(page.read_text()) if name == "toml"]
)
def test_a_file_of_settings_is_taken_as_it_stands(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r'^engine = "(.*)"', block, re.MULTILINE):
        Path(name).write_bytes(DEMO.read_bytes())
    Path("line.toml").write_text(block)
    assert main(["run", "-c", "line.toml", "--check"]) == 0


@pytest.mark.parametrize("page", SOURCE_PAGES)
def test_a_source_has_a_page_that_names_its_options(page: str) -> None:
    check_page(ROOT / "docs" / "sources" / f"{page}.md", {each: SOURCES[each] for each in SOURCE_PAGES[page]})


@pytest.mark.parametrize("page", OUTPUT_PAGES)
def test_an_output_has_a_page_that_names_its_options(page: str) -> None:
    check_page(
        ROOT / "docs" / "outputs" / f"{page}.md", {each: {**OUTPUTS, **BUSES}[each] for each in OUTPUT_PAGES[page]}
    )


def check_page(page: Path, options: Mapping[str, frozenset[str]]) -> None:
    """options: by the schemes that the page is about."""
    text = page.read_text()
    assert [scheme for scheme in options if f"{scheme}:" not in text] == []
    assert set(_OPTION.findall(" ".join(_OPTIONS_CELL.findall(text)))) == frozenset().union(*options.values())


def test_no_scheme_is_without_a_page() -> None:
    assert sorted(sum(SOURCE_PAGES.values(), ())) == sorted(SOURCES)
    assert sorted(sum(OUTPUT_PAGES.values(), ())) == sorted({**OUTPUTS, **BUSES})
    assert {"dashboard", "metrics"} <= {page.stem for page in (ROOT / "docs" / "outputs").glob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, open_ = set(), [ROOT / "README.md"]
    while open_:
        page = open_.pop()
        seen.add(page)
        linked = {(page.parent / target).resolve() for target in _LINK.findall(page.read_text())}
        open_ += [other for other in linked if other.suffix == ".md" and other not in seen]
    assert seen >= set(PAGES)


def test_each_verb_is_told_of() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    assert [verb for verb in VERBS if f"lad-edge {verb}" not in text] == []
