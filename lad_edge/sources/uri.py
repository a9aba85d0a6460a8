"""The words after --camera or --source go in, a checked URI comes out; and the same without its secrets.

Only the standard library is imported: the driver process reads the same URIs, under whatever Python has its driver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from lad_edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_STREAM_OPTIONS = frozenset({"transport", "silence"})

# Scheme → the options that it knows. Those of network streams stand behind '#': the query belongs to the camera.
SCHEMES: Mapping[str, frozenset[str]] = {
    "file": frozenset(),
    "dir": frozenset({"ready", "settle", "sentinel", "existing"}),
    "v4l2": frozenset({"size", "fps", "format", "silence"}),
    "rtsp": _STREAM_OPTIONS,
    "rtsps": _STREAM_OPTIONS | {"ca"},
    "http": frozenset({"silence"}),
    "https": frozenset({"silence", "ca"}),
    "genicam": frozenset(
        {"exposure", "gain", "fps", "format", "size", "offset", "packet", "serial", "silence"}
        | {"trigger", "line", "activation", "delay"}
    ),
    "gst": frozenset(),  # a pipeline says everything itself
    "pattern": frozenset({"fps", "format", "frames", "seed"}),
}
NETWORK = frozenset({"rtsp", "rtsps", "http", "https"})
_PATHS = frozenset({"file", "dir"})  # their addresses may have any character
# Options that are times → the unit of a bare number: GenICam counts in µs.
_TIMES = {"exposure": "us", "delay": "us", "silence": "s", "settle": "s"}
_UNIT_US = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}
_TIME = re.compile(r"(\d+(?:\.\d+)?)(us|µs|ms|s)", re.ASCII)
_USER = re.compile(r"(?<=//)[^\s/@]+@", re.ASCII)  # in the URLs inside a pipeline
_SECRET = re.compile(r"(\b(?:user-id|user-pw|pw|password|passwd|passphrase)=)\S+", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)


@dataclass(frozen=True)
class SourceUri:
    """address: what stands between the scheme and the options; for network streams the whole URL, without a fragment.

    options: as they were written, but times without a unit: exposure and delay in µs, all others in seconds.
    """

    scheme: str
    address: str
    options: Mapping[str, str]

    def number(self, option: str, default: float) -> float:
        """An option that is a number of at least 0. Raises UsageError."""
        text = self.options.get(option)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            what = "a time such as 5ms" if option in _TIMES else "a number of at least 0"
            raise UsageError(f"{self.scheme}:// takes {what} for {option}; came '{text}'")
        return value

    def choice(self, option: str, *known: str) -> str:
        """An option out of a list, whose first is the default. Raises UsageError with the nearest one."""
        text = self.options.get(option, known[0])
        if text not in known:
            raise UsageError(f"{self.scheme}:// knows {option}={_either(text, known)}")
        return text

    def pair(self, option: str) -> tuple[int, int] | None:
        """An option such as size=1280x1024; None if it is not given. Raises UsageError."""
        text = self.options.get(option)
        return None if text is None else pair_of(text, f"{self.scheme}:// option {option}")


def parse(text: str) -> SourceUri:
    """`0`, `/dev/video0` → a V4L2 camera; `SCHEME://…` → that; anything else is a path. Raises UsageError."""
    found = _SCHEME.match(text)
    if found is None:
        return _without_scheme(text)
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in sorted(SCHEMES))
        raise UsageError(
            f"a source is a file, a folder, the number of a camera or one of {known}; came {scheme}://{_nearest(scheme)}"
        )
    if scheme == "gst":  # a pipeline is full of characters that mean something in a URI
        return SourceUri(scheme, unquote(rest) if " " not in rest else rest, {})
    if scheme in NETWORK:
        address, _, fragment = text.partition("#")
        return SourceUri(scheme, address, _options(scheme, fragment))
    address, _, query = rest.partition("?")
    if scheme not in _PATHS and "#" in rest:
        raise UsageError(f"{scheme}:// has its options behind '?', and only network streams behind '#'; came '{rest}'")
    return SourceUri(
        scheme, _device(unquote(address)) if scheme == "v4l2" else unquote(address), _options(scheme, query)
    )


def redacted(text: str) -> str:
    """What --camera and --source take, fit for messages and records: without user and password, and the query of a network stream."""
    scheme = text.partition("://")[0].lower()
    if scheme not in NETWORK:
        return _SECRET.sub(r"\1***", _USER.sub("***@", text))
    parts = urlsplit(text)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"***@{host}" if "@" in parts.netloc else host
    return urlunsplit((parts.scheme, netloc, parts.path, "***" if parts.query else "", ""))


def pair_of(text: str, what: str) -> tuple[int, int]:
    """`1280x1024` → (1280, 1024). Raises UsageError."""
    found = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text, re.ASCII)
    if found is None:
        raise UsageError(f"{what} is written WIDTHxHEIGHT, such as 1280x1024; came '{text}'")
    return int(found[1]), int(found[2])


def _without_scheme(text: str) -> SourceUri:
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in SCHEMES:
        meant = redacted(f"{scheme}://{rest.lstrip('/')}")
        raise UsageError(f"two slashes stand behind {scheme}:; did you mean {meant}?")
    if text.isdecimal() or text.startswith("/dev/"):
        return SourceUri("v4l2", _device(text), {})
    return SourceUri("file", text, {})


def _device(address: str) -> str:
    if not address:
        raise UsageError("v4l2:// needs a device, such as v4l2://0 or v4l2:///dev/video0; see 'lad-edge camera list'")
    return f"/dev/video{address}" if address.isdecimal() else str(Path(address))


def _options(scheme: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in SCHEMES[scheme]:
            known = tuple(sorted(SCHEMES[scheme]))
            raise UsageError(
                f"{scheme}:// knows the options {_either(name, known)}"
                if known
                else f"{scheme}:// takes no options; came '{name}'"
            )
    return {name: _bare(text, _TIMES[name]) if name in _TIMES else text for name, text in options.items()}


def _bare(text: str, unit: str) -> str:
    """`2ms` → `2000` for µs. What is no time is refused by whoever reads it."""
    found = _TIME.fullmatch(text)
    return text if found is None else f"{float(found[1]) * _UNIT_US[found[2]] / _UNIT_US[unit]:.9g}"


def _either(came: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(came, known, 1)
    return f"{', '.join(known)}; came '{came}'" + (f": did you mean '{near[0]}'?" if near else "")


def _nearest(scheme: str) -> str:
    near = get_close_matches(scheme, SCHEMES, 1)
    return f": did you mean {near[0]}://?" if near else ""
