"""What stands after --plc goes in; bus, address and options, checked, come out."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from lad_edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
    IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_DEFAULT_PORTS = {"modbus": 502, "opcua": 4840}
OPTIONS: Mapping[str, frozenset[str]] = {
    "modbus": frozenset({"unit", "allow"}),
    "opcua": frozenset({"users", "keys", "trust"}),
}
_EXAMPLE = "modbus://127.0.0.1:1502 or opcua://127.0.0.1:4840"


@dataclass(frozen=True)
class PlcAddress:
    """unit: of Modbus. allow: networks whose clients are served, () = all. users, keys, trust: see opcua.py."""

    scheme: str
    host: str
    port: int
    unit: int = 1
    allow: tuple[IpNetwork, ...] = ()
    users: Path | None = None
    keys: Path | None = None
    trust: Path | None = None

    @property
    def loopback(self) -> bool:
        """Nobody but this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    def allows(self, peer: IpAddress) -> bool:
        """Whether a client is served."""
        return not self.allow or any(peer in network for network in self.allow)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse(uri: str, option: str = "--plc") -> PlcAddress:
    """`modbus://HOST:PORT?unit=1&allow=10.0.7.0/24`, `opcua://HOST:PORT?users=FILE&keys=FOLDER&trust=FOLDER`.

    option: the word that errors name. Raises UsageError.
    """
    parts = urlsplit(uri)
    try:
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError as exc:
        raise UsageError(f"{option} {uri}: {exc}; expected {_EXAMPLE}") from exc
    if parts.scheme not in OPTIONS or parts.path not in ("", "/") or parts.username or parts.fragment:
        raise UsageError(f"{option} takes {_EXAMPLE}; came '{uri}'")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    _check_names(parts.scheme, options)
    return PlcAddress(
        parts.scheme,
        _numeric(host, f"{option} {uri}"),
        _DEFAULT_PORTS[parts.scheme] if port is None else port,
        _unit(options.get("unit", "1")),
        _networks(options.get("allow", "")),
        *(Path(options[name]) if name in options else None for name in ("users", "keys", "trust")),
    )


def _check_names(scheme: str, options: Mapping[str, str]) -> None:
    known = sorted(OPTIONS[scheme])
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise UsageError(
                f"--plc {scheme}: takes {', '.join(known)}; came '{name}'"
                + (f": did you mean {near[0]}?" if near else "")
            )


def _numeric(host: str, where: str) -> str:
    """A server listens on an address of this machine: names would need a look-up that may change."""
    try:
        return str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError as exc:
        raise UsageError(f"{where}: expected an address in numbers, such as 127.0.0.1 or 0.0.0.0") from exc


def _unit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 247:
        raise UsageError(f"--plc modbus: takes a unit from 1 to 247; came '{text}'")
    return int(text)


def _networks(text: str) -> tuple[IpNetwork, ...]:
    try:
        return tuple(ipaddress.ip_network(word) for word in text.split(",") if word)
    except ValueError as exc:
        raise UsageError(f"--plc: takes networks such as allow=10.0.7.0/24,10.0.8.5; {exc}") from exc
