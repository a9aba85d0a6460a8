"""A configuration becomes a systemd unit that systemd itself finds well protected."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lad_edge import __version__
from lad_edge.cli import main

with_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: systemd)"
)
MOST_EXPOSED = 2.0  # of 10; an ordinary unit has 9.6


@pytest.fixture
def config(tiny_bundle: Path, tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    path = tmp_path / "line3.toml"
    path.write_text(f'engine = "{tiny_bundle}"\nsource = "{tmp_path / "pictures"}"\n')
    return path


@pytest.fixture
def unit(config: Path, tmp_path: Path) -> Path:
    assert main(["service", "install", "-c", str(config), "--units", str(tmp_path), "--allow-net", "10.0.7.0/24"]) == 0
    return tmp_path / "lad-edge-line3.service"


def exposure(unit: Path) -> float:
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return float(re.findall(r"Overall exposure level for .*: ([0-9.]+)", told)[-1])


@with_systemd
def test_systemd_finds_nothing_exposed_that_need_not_be(unit: Path) -> None:
    assert exposure(unit) <= MOST_EXPOSED


@with_systemd
@pytest.mark.parametrize(("port", "rights"), [(502, "CAP_NET_BIND_SERVICE"), (1502, "")])
def test_a_port_of_root_is_the_one_right_that_it_gets(port: int, rights: str, config: Path, tmp_path: Path) -> None:
    text = re.sub("source = .*", f'source = "pattern://64x48"\nplc = "modbus://127.0.0.1:{port}"', config.read_text())
    config.write_text(text)
    assert main(["service", "install", "-c", str(config), "--units", str(tmp_path)]) == 0
    unit = tmp_path / "lad-edge-line3.service"
    assert f"\nCapabilityBoundingSet={rights}\nAmbientCapabilities={rights}\n" in unit.read_text()
    assert exposure(unit) <= MOST_EXPOSED


@with_systemd
def test_systemd_understands_every_line(unit: Path) -> None:
    told = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert not [line for line in told.stderr.splitlines() if str(unit) in line and "Unknown" in line]


def test_the_unit_runs_the_configuration_and_reaches_what_was_named(unit: Path, config: Path) -> None:
    text = unit.read_text()
    assert f" run -c {config}\n" in text
    assert "\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.7.0/24\n" in text


def test_the_unit_starts_this_lad_edge_though_sudo_does_not_find_it(
    config: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin")
    assert main(["service", "print", "-c", str(config)]) == 0
    program = re.search(r"^ExecStart=(\S+) run", capfd.readouterr().out, re.MULTILINE)
    assert program is not None
    told = subprocess.run([program[1], "--version"], capture_output=True, text=True, check=True)
    assert __version__ in told.stdout


def test_what_the_service_could_not_see_is_named(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["service", "install", "-c", str(config), "--units", str(tmp_path)]
    monkeypatch.setattr("lad_edge.cli.service._HOMES", (str(tmp_path / "elsewhere"),))  # this test may run below /home
    assert main(words) == 0
    assert "hides" not in capfd.readouterr().out
    monkeypatch.setattr("lad_edge.cli.service._HOMES", (str(tmp_path),))
    assert main(words) == 0
    assert f"hides {config} from the service" in capfd.readouterr().out


def test_records_go_to_the_journal_only_if_the_configuration_asks_for_them(
    unit: Path, config: Path, tmp_path: Path
) -> None:
    assert "\nStandardOutput=null\n" in unit.read_text()
    config.write_text(config.read_text() + "json = true\n")
    assert main(["service", "install", "-c", str(config), "--units", str(tmp_path)]) == 0
    assert "\nStandardOutput=journal\n" in unit.read_text()


def test_files_without_a_limit_are_named(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(
        config.read_text() + 'out = ["a.jsonl", "csv:b.csv", "csv:c.csv?rotate=1MB&quota=9MB", "sqlite:d.sqlite"]\n'
    )
    assert main(["service", "install", "-c", str(config), "--units", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert [name for name in ("a.jsonl", "b.csv", "c.csv", "d.sqlite") if f"{name} grows" in told] == [
        "a.jsonl",
        "b.csv",
    ]


def test_what_to_do_next_is_said(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "install", "-c", str(config), "--units", str(tmp_path), "--name", "top"]) == 0
    assert "sudo systemctl enable --now lad-edge-top" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "../x"], "are named with a-z, 0-9 and '-'"),
        (["--user", "a b"], "are named with a-z, 0-9 and '-'"),
        (["--allow-net", "10.0.7"], "write a network such as 10.0.7.0/24"),
        (["--units", "/nowhere/at/all"], "--units takes another folder"),
    ],
)
def test_what_is_wrong_is_said(
    config: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["service", "install", "-c", str(config), *words]) == 1
    assert message in capsys.readouterr().err


def test_a_configuration_that_would_not_run_becomes_no_service(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text() + "treads = 1\n")
    assert main(["service", "install", "-c", str(config), "--units", str(tmp_path)]) == 1
    assert "did you mean 'threads'?" in capsys.readouterr().err
    assert not (tmp_path / "lad-edge-line3.service").exists()
