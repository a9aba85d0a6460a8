"""A commented TOML file goes in; the words of `lad-edge run` come out, one list for each camera.

The keys are the long options of `run` without their dashes, and mean the same: the parser of the command line checks both. Keys at the
top hold for every `[[camera]]`, which may set its own.
"""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any

from lad_edge.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MOST_BYTES = 256 * 1024
CAMERAS = "camera"
_NOT_HERE = frozenset({"config", "help", "print-config"})


def read_config(path: Path, parser: argparse.ArgumentParser) -> list[list[str]]:
    """Words for each camera of the file, or one list where it names none.

    Raises UsageError that names the key and what it might mean; the caller names the file.
    """
    table = _load(path)
    own = table.pop(CAMERAS, [{}])
    if not isinstance(own, list) or not own or not all(isinstance(each, dict) for each in own):
        raise UsageError(f"cameras are written as tables under [[{CAMERAS}]], at least one")
    options = _options(parser)
    return [list(_words({**table, **camera}, options)) for camera in own]


def _load(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise UsageError(f"it cannot be read: {exc.strerror}") from exc
    if len(data) > MOST_BYTES:
        raise UsageError(f"it has {len(data)} bytes; a configuration has at most {MOST_BYTES}")
    try:
        table: dict[str, Any] = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"it is no TOML: {exc}") from exc
    return table


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Long options by their names in a file."""
    named = {
        text.removeprefix("--"): action
        for action in parser._actions
        for text in action.option_strings
        if text.startswith("--")
    }
    return {name: action for name, action in named.items() if name not in _NOT_HERE}


def _words(table: Mapping[str, Any], options: Mapping[str, argparse.Action]) -> Iterator[str]:
    for key, value in table.items():
        action = options.get(key)
        if action is None:
            raise UsageError(f"'{key}' is no setting{_nearest(key, [*options, CAMERAS])}")
        if action.nargs == 0:
            yield from _flag(key, value)
            continue
        values = value if isinstance(value, list) else [value]
        if len(values) > 1 and not _repeats(action):
            raise UsageError(f"'{key}' takes one value, came a list of {len(values)}")
        for each in values:
            yield f"--{key}={_text(key, each)}"


def _repeats(action: argparse.Action) -> bool:
    return type(action).__name__ == "_AppendAction"


def _flag(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, bool):
        raise UsageError(f"'{key}' is true or false, came {value!r}")
    if value:
        yield f"--{key}"


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"'{key}' takes a text or a number, came {value!r}")
    return str(value)


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(sorted(known))}"
