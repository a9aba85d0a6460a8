"""A word after --out goes in; scheme, place and options, checked, come out; and a name of it that shows no credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from lad_edge.errors import UsageError
from lad_edge.stream.records import safe_id
from lad_edge.stream.secret_file import read_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lad_edge.stream.records import Origin

_DELIVERED = frozenset({"from"})  # options of every output that delivers from the outbox
_FILE = _DELIVERED | {"rotate", "quota"}
_MQTT = _DELIVERED | {"password-file", "client-id", "protocol", "allow-plain-password"}
_HTTP = _DELIVERED | {"secret-file", "timeout"}
_TLS = frozenset({"ca", "cert", "key"})

# Scheme → the options that it knows; the classes stand in opening.py.
SCHEMES: Mapping[str, frozenset[str]] = {
    "csv": _FILE,
    "http": _HTTP,
    "https": _HTTP | _TLS,
    "images": frozenset({"ok", "maps", "quota", "min-free"}),
    "jsonl": _FILE,
    "mqtt": _MQTT,
    "mqtts": _MQTT | _TLS,
    "sqlite": frozenset({"max-size", "keep", "when-full", "reserve", "waiting"}),
}
FILES = frozenset({"csv", "jsonl"})
NETWORK = frozenset({"http", "https", "mqtt", "mqtts"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?", re.ASCII)
_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_TIMES_S = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", re.ASCII)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Address:
    """path: of a file or folder, or what follows the host, without its first slash; port None = the scheme's own."""

    scheme: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    port: int | None = None
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """For people and for cursors: without user, password and options."""
        if self.scheme not in NETWORK:
            return f"{self.scheme}:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}/{self.path}"

    @property
    def loopback(self) -> bool:
        """True for a host that is this machine."""
        return self.host in _LOOPBACK

    def filled(self, origin: Origin) -> Address:
        """With {device} and {camera} in the path replaced by this line's; a topic of MQTT stays: each record fills it by itself."""
        if self.scheme.startswith("mqtt"):
            return self
        path = self.path.replace("{device}", safe_id(origin.device_id)).replace("{camera}", safe_id(origin.camera_id))
        return replace(self, path=path)

    def choice(self, option: str, *known: str) -> str:
        """One of a list, whose first is the default. Raises UsageError."""
        text = self.options.get(option, known[0])
        if text not in known:
            raise UsageError(f"{self.scheme}: takes {option}={_one_of(text, known)}")
        return text

    def whole(self, option: str, default: int) -> int:
        """A whole number of at least 0. Raises UsageError."""
        text = self.options.get(option, str(default))
        if not text.isdecimal():
            raise UsageError(f"{self.scheme}: takes a whole number for {option}; came '{text}'")
        return int(text)

    def size_bytes(self, option: str, default: int) -> int:
        """20GB, 512MiB → bytes. Raises UsageError."""
        return int(self._quantity(option, _SIZES, "a size such as 20GB")) if option in self.options else default

    def duration_s(self, option: str, default: float) -> float:
        """30d, 5s → seconds. Raises UsageError."""
        return self._quantity(option, _TIMES_S, "a time such as 30d or 5s") if option in self.options else default

    def secret(self, option: str) -> str:
        """The content of the file that the option names, without white space around it; "" without the option. Raises UsageError."""
        path = self.options.get(option)
        return "" if path is None else read_secret(Path(path), f"{self.name}: {option}")

    def _quantity(self, option: str, units: Mapping[str, float], what: str) -> float:
        text = self.options[option]
        found = _QUANTITY.fullmatch(text)
        if found is None or found[2].lower() not in units:
            raise UsageError(f"{self.scheme}: takes {what} for {option}; came '{text}'")
        return float(found[1]) * units[found[2].lower()]


def is_address(text: str) -> bool:
    """False for a plain path. A scheme that is nearly one of ours is an address, so that a slip is told and makes no file."""
    found = _SCHEME.match(text)
    return found is not None and (found[2] is not None or bool(get_close_matches(found[1].lower(), SCHEMES, 1)))


def parse(text: str) -> Address:
    """`scheme:path?option=value` or `scheme://user:password@host:port/path?option=value`. Raises UsageError."""
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else text
    if found is None or scheme not in SCHEMES:
        raise UsageError(f"--out takes a file or an address with {_one_of(scheme, tuple(SCHEMES))}")
    if scheme in NETWORK:
        return _network(scheme, text)
    path, _, query = text[found.end() :].partition("?")
    if not path:
        raise UsageError(f"{scheme}: needs a path, such as {scheme}:results; came '{text}'")
    return Address(scheme, path, _options(scheme, query))  # not unquoted: % begins a date


def _network(scheme: str, text: str) -> Address:
    parts = urlsplit(text)
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise UsageError(f"{scheme}://: {exc}; write {scheme}://host:port/path") from exc
    if not host:
        raise UsageError(f"{scheme}:// needs a host, such as {scheme}://10.0.0.7/path")
    return Address(
        scheme,
        unquote(parts.path.removeprefix("/")) if scheme.startswith("mqtt") else parts.path.removeprefix("/"),
        _options(scheme, parts.query),
        host,
        port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def _options(scheme: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in SCHEMES[scheme]:
            raise UsageError(f"{scheme}: knows the options {_one_of(name, tuple(sorted(SCHEMES[scheme])))}")
    return options


def _one_of(came: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(came, known, 1)
    return f"{', '.join(known)}; came '{came}'" + (f": did you mean {near[0]}?" if near else "")
