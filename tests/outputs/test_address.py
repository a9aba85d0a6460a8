"""The words after --out: what they mean, what is refused, and that no password is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from lad_edge.errors import UsageError
from lad_edge.outputs.address import Address, is_address, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("results.jsonl", False),
        ("out/shift 1.jsonl", False),
        ("/var/lib/x:y.jsonl", False),
        ("part:7.jsonl", False),
        ("sqlite:x.db", True),
        ("sqlit:x.db", True),
        ("mqqt://host/x", True),
        ("ftp://host/x", True),
    ],
)
def test_a_path_is_no_address_and_a_slip_is_no_path(text: str, expected: bool) -> None:
    assert is_address(text) is expected


def test_an_address_is_taken_apart() -> None:
    address = parse("mqtts://bob:p%40ss@[::1]:8884/line3/{camera}?client-id=box&from=start")
    assert (address.scheme, address.host, address.port, address.path) == ("mqtts", "::1", 8884, "line3/{camera}")
    assert (address.user, address.password, address.options) == ("bob", "p@ss", {"client-id": "box", "from": "start"})
    assert address.loopback
    assert parse("csv:/var/parts/%Y%m%d.csv?from=now").path == "/var/parts/%Y%m%d.csv"


def test_no_password_is_shown() -> None:
    address = parse("mqtt://bob:secret@host/x?client-id=a")
    assert address.name == "mqtt://host/x"
    assert "secret" not in repr(address) + str(address)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mqqt://host/x", "did you mean mqtt"),
        ("ftp://host/x", "ftp"),
        ("mqtt:///x", "needs a host"),
        ("mqtt://host:port/x", "host:port"),
        ("sqlite:", "needs a path"),
        ("sqlite:x?max_size=1GB", "did you mean max-size"),
        ("csv:x?maps=no", "knows the options from"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_nearest_word(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(text)


def test_sizes_times_and_choices_are_read_with_their_units() -> None:
    address = parse("sqlite:x?max-size=1.5GB&reserve=64MiB&keep=30d&when-full=continue&waiting=10")
    assert address.size_bytes("max-size", 0) == 1_500_000_000
    assert address.size_bytes("reserve", 0) == 64 << 20
    assert address.duration_s("keep", 0.0) == 30 * 86400
    assert address.choice("when-full", "stop", "continue") == "continue"
    assert address.whole("waiting", 5) == 10


@pytest.mark.parametrize("options", ["max-size=7", "max-size=2 apples", "keep=soon", "when-full=wait", "waiting=-1"])
def test_a_number_without_unit_or_an_unknown_choice_is_refused(options: str) -> None:
    address = parse(f"sqlite:x?{options}")
    with pytest.raises(UsageError, match="takes"):
        read_all(address)


def read_all(address: Address) -> None:
    address.size_bytes("max-size", 0)
    address.duration_s("keep", 0.0)
    address.whole("waiting", 1)
    address.choice("when-full", "stop", "continue")


def test_a_secret_comes_from_a_file_and_a_missing_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(" s3cret\n")
    (tmp_path / "password").chmod(0o600)
    assert parse(f"mqtt://host/x?password-file={tmp_path / 'password'}").secret("password-file") == "s3cret"
    with pytest.raises(UsageError, match="cannot be read"):
        parse("mqtt://host/x?password-file=/nowhere").secret("password-file")
    (tmp_path / "password").chmod(0o644)
    with pytest.raises(UsageError, match=r"mqtt://host/x: password-file .* chmod 600"):
        parse(f"mqtt://host/x?password-file={tmp_path / 'password'}").secret("password-file")
