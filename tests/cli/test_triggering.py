"""The words of --trigger."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from lad_edge.cli.triggering import add_trigger_options, make_trigger, source_words
from lad_edge.errors import UsageError
from lad_edge.stream.broker import Broker
from lad_edge.stream.http_trigger import HttpTrigger
from lad_edge.stream.mqtt_trigger import MqttTrigger
from lad_edge.stream.parts import Parts
from lad_edge.stream.presence import Presence
from lad_edge.stream.triggers import Interval, Trigger


def parsed(words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--camera")
    add_trigger_options(parser)
    parser.set_defaults(deadline=None, source=None)
    return parser.parse_args(words.split())


def made(words: str, *, live: bool = True) -> Trigger | None:
    make = make_trigger(parsed(words), live=live)
    return make(Parts(1, lambda *_: None, wait_when_full=False)) if make else None  # type: ignore[arg-type, return-value]


def test_each_picture_is_a_part_unless_something_else_is_asked_for() -> None:
    assert made("") is None
    assert made("--trigger free-run", live=False) is None


def test_a_clock() -> None:
    trigger = made("--trigger interval:250ms --pictures 3")
    assert isinstance(trigger, Interval)
    assert (trigger.period_s, trigger.pictures) == (0.25, 3)


@pytest.mark.parametrize(("text", "place"), [("presence", None), ("presence:1,2,30,40", (1, 2, 30, 40))])
def test_a_place_that_parts_enter(text: str, place: tuple[int, ...] | None) -> None:
    trigger = made(f"--trigger {text}")
    assert isinstance(trigger, Presence)
    assert trigger.place == place


@pytest.mark.parametrize(
    ("words", "source"),
    [
        ("--camera 0", "0"),
        ("--camera genicam://X --trigger line:Line1", "genicam://X?trigger=line&line=Line1"),
        (
            "--camera genicam://X?gain=3 --trigger line:Line2,FallingEdge",
            "genicam://X?gain=3&trigger=line&line=Line2&activation=FallingEdge",
        ),
    ],
)
def test_the_input_of_a_camera_is_told_to_the_camera(words: str, source: str) -> None:
    assert source_words(parsed(words)) == source
    assert made(words) is None  # each picture is a part


def test_a_topic_of_a_broker() -> None:
    trigger = made("--trigger mqtt://me:secret@localhost:1884/line3/trigger?protocol=3.1.1 --pictures 2")
    assert isinstance(trigger, MqttTrigger)
    assert (trigger.topic, trigger.pictures) == ("line3/trigger", 2)
    assert trigger.broker == Broker("localhost", 1884, "", "3.1.1", "me", "secret")


def test_requests_with_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "token").chmod(0o600)
    trigger = made(f"--trigger http://127.0.0.1:0 --token-file {tmp_path}/token")
    assert isinstance(trigger, HttpTrigger)
    assert trigger._server.token == "0123456789abcdef"
    trigger.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--trigger interval", "a time is written with its unit"),
        ("--trigger interval:0ms", "expected a time above 0"),
        ("--trigger presence:1,2", "a region is written X,Y,WIDTH,HEIGHT"),
        ("--trigger pressure", "expected one of free-run, interval:TIME"),
        ("--trigger free-run:1", "expected one of free-run"),
        ("--trigger http://127.0.0.1", "expected http://HOST:PORT"),
        ("--trigger http://127.0.0.1:99999", "expected http://HOST:PORT"),
        ("--trigger http://127.0.0.1:80/path", "expected http://HOST:PORT"),
        ("--trigger http://0.0.0.0:0", "it needs --token-file"),
        ("--trigger http://127.0.0.1:0 --token-file /nowhere", "cannot be read"),
        ("--trigger presence --token-file x", "--token-file is for --trigger http"),
        ("--trigger line --camera genicam://X", "expected the input, such as line:Line1"),
        ("--trigger line:Line1 --camera 0", "only cameras of genicam:// have inputs; came 0"),
        ("--trigger line:Line1 --camera genicam://X?trigger=software", "say it once"),
        ("--trigger line:Line1 --pictures 2 --camera genicam://X", "has one picture for each part"),
        ("--trigger mqtt://127.0.0.1", "expected a topic without wildcards"),
        ("--trigger mqtt://127.0.0.1/line/+", "expected a topic without wildcards"),
        ("--trigger mqtt://127.0.0.1/line?protocol=4", "protocol=5, 3.1.1; came '4'"),
        ("--trigger mqtt://127.0.0.1/line?retain=1", "knows the options"),
        ("--trigger mqtt://me:secret@10.0.0.7/line", "would cross the network in plain text"),
        ("--trigger mqtt://127.0.0.1/line --token-file x", "--token-file is for --trigger http"),
        ("--on-unknown reject", "give one with --plc"),
        ("--on-late reject", "give one with --plc"),
        ("--plc modbus://127.0.0.1:0 --on-late reject", "give one with --deadline"),
        ("--pictures 2", "has one picture for each part"),
        ("--plc modbus://127.0.0.1:0 --trigger presence", "the PLC triggers; leave one of them out"),
    ],
)
def test_what_is_wrong_is_said(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(words)
    assert message in str(caught.value)


def test_a_token_that_can_be_guessed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(UsageError, match="16 ASCII characters at least"):
        made(f"--trigger http://127.0.0.1:0 --token-file {tmp_path}/token")


@pytest.mark.parametrize("mode", [0o644, 0o602])
def test_a_token_that_everybody_can_read_or_change(tmp_path: Path, mode: int) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "token").chmod(mode)
    with pytest.raises(UsageError, match=f"chmod 600 {tmp_path}/token"):
        made(f"--trigger http://127.0.0.1:0 --token-file {tmp_path}/token")


def test_files_have_no_trigger() -> None:
    with pytest.raises(UsageError, match="needs a live source"):
        made("--trigger interval:1s", live=False)
