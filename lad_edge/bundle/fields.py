"""Strict JSON and strict objects: what is written is canonical; what is read has exactly the keys that are known."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union

from lad_edge.bundle.refused import Refused

Json = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
T = TypeVar("T")

MAX_DEPTH = 8
MAX_INTEGER = 2**53  # larger ones are not exact in every JSON reader

_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def canonical_json(value: object) -> str:
    """Sorted keys, no spaces, ASCII escapes; NaN and Infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def strict_json(text: str, *, code: str, what: str) -> Any:
    """Parse JSON; refuse duplicate keys, NaN, Infinity, absurd depth and anything that is not JSON."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise Refused(
            code, f"the {what} is not strict JSON ({exc}); the file is damaged: copy or export it again"
        ) from exc


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def plain(value: object) -> Any:
    """Dataclasses, mappings and tuples as dicts and lists; other values as they are.

    A field with the metadata `absent_if_none` has no key without a value.
    """
    if is_dataclass(value) and not isinstance(value, type):
        stated = {field: getattr(value, field.name) for field in fields(value)}
        left_out = [field for field, item in stated.items() if item is None and "absent_if_none" in field.metadata]
        return {field.name: plain(item) for field, item in stated.items() if field not in left_out}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def check_free_form(value: object, where: str, depth: int = 1) -> None:
    """Refuse what canonical JSON cannot carry: depth over 8, NaN, Infinity, huge integers, other types."""
    if depth > MAX_DEPTH + 1:
        raise Refused("MANIFEST", f"'{where}' is nested deeper than {MAX_DEPTH}; flatten it")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise Refused("MANIFEST", f"'{where}' has the key {key!r}: expected text")
            check_free_form(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_free_form(item, f"{where}[{index}]", depth + 1)
    elif not (value is None or isinstance(value, (bool, str))):
        finite_number(value, where)


def finite_number(value: object, where: str) -> float | int:
    """Return `value` if it is a finite int or float, not a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Refused("MANIFEST", f"'{where}': expected a number, came {_shown(value)}")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise Refused("MANIFEST", f"'{where}': expected an integer within ±2^53, came one of {value.bit_length()} bits")
    if not math.isfinite(value):
        raise Refused("MANIFEST", f"'{where}': expected a finite number, came {value}")
    return value


class Fields:
    """Takes the keys of one JSON object one by one; `end` refuses what nobody took."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise Refused("MANIFEST", f"'{where or 'manifest'}': expected an object, came {_shown(value)}")
        self.left = dict(value)
        self.where = where

    def name(self, key: str) -> str:
        """Dotted name of `key`."""
        return f"{self.where}.{key}" if self.where else key

    def take(self, key: str) -> object:
        """Remove and return the value of a required key."""
        if key not in self.left:
            raise Refused(
                "MANIFEST", f"key '{self.name(key)}' is missing; the file was made by another program or version"
            )
        return self.left.pop(key)

    def end(self) -> None:
        """Refuse unknown keys: a reader that ignores a key may ignore a rule."""
        if self.left:
            unknown = ", ".join(f"'{self.name(str(key))}'" for key in sorted(self.left, key=str))
            raise Refused(
                "UNKNOWN_KEY", f"{unknown}: this program does not know this key; update lad-edge or export again"
            )

    def text(self, key: str) -> str:
        """Text of at most 4096 characters."""
        value = self.take(key)
        if not isinstance(value, str) or len(value) > 4096:
            raise Refused(
                "MANIFEST", f"'{self.name(key)}': expected text of at most 4096 characters, came {_shown(value)}"
            )
        return value

    def choice(self, key: str, *allowed: str) -> str:
        """One of the allowed words."""
        value = self.text(key)
        if value not in allowed:
            raise Refused("MANIFEST", f"'{self.name(key)}': expected one of {', '.join(allowed)}; came '{value[:80]}'")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Integer in [low, high]."""
        return checked_integer(self.take(key), low, high, self.name(key))

    def optional(self, key: str, parse: Callable[[object, str], T]) -> T | None:
        """None, or what `parse(value, dotted name)` makes of it."""
        value = self.take(key)
        return None if value is None else parse(value, self.name(key))

    def number(self, key: str) -> float:
        """Finite number as float."""
        return float(finite_number(self.take(key), self.name(key)))

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """Exactly `count` finite numbers."""
        items = checked_list(self.take(key), count, self.name(key))
        return tuple(float(finite_number(item, self.name(key))) for item in items)

    def integers(self, key: str, count: int, low: int, high: int) -> tuple[int, ...]:
        """Exactly `count` integers in [low, high]."""
        items = checked_list(self.take(key), count, self.name(key))
        return tuple(checked_integer(item, low, high, self.name(key)) for item in items)

    def free_form(self, key: str) -> dict[str, Json]:
        """A JSON object of any keys: depth ≤ 8, finite numbers only."""
        value = self.take(key)
        if not isinstance(value, dict):
            raise Refused("MANIFEST", f"'{self.name(key)}': expected an object, came {_shown(value)}")
        check_free_form(value, self.name(key))
        return value

    def each(self, key: str, parse: Callable[[object, str], T]) -> dict[str, T]:
        """An object whose values are all of one kind."""
        value = self.take(key)
        if not isinstance(value, dict):
            raise Refused("MANIFEST", f"'{self.name(key)}': expected an object, came {_shown(value)}")
        return {str(name): parse(item, f"{self.name(key)}.{name}") for name, item in value.items()}


def checked_integer(value: object, low: int, high: int, where: str) -> int:
    """Return `value` if it is an int in [low, high], not a bool."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Refused("MANIFEST", f"'{where}': expected an integer from {low} to {high}, came {_shown(value)}")
    return value


def checked_list(value: object, count: int | None, where: str) -> list[object]:
    """Return `value` if it is a list (of `count` items)."""
    if not isinstance(value, list) or (count is not None and len(value) != count):
        expected = "a list" if count is None else f"a list of {count}"
        raise Refused("MANIFEST", f"'{where}': expected {expected}, came {_shown(value)}")
    return value


def checked_word(value: object, where: str) -> str:
    """Return `value` if it is a name that needs no quotes anywhere."""
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise Refused("MANIFEST", f"'{where}': expected 1 to 64 of A-Z a-z 0-9 . _ -, came {str(value)[:80]!r}")
    return value


def checked_line(value: object, where: str) -> str:
    """Return `value` if it is one printable line."""
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise Refused("MANIFEST", f"'{where}': expected one line of at most 200 characters, came {str(value)[:80]!r}")
    return value


def checked_sha256(text: str, where: str) -> str:
    """Return `text` if it is a sha256 in lower-case hex."""
    if not _SHA256.fullmatch(text):
        raise Refused("MANIFEST", f"'{where}': expected 64 lower-case hex digits, came {text[:80]!r}")
    return text


def _shown(value: object) -> str:
    return f"{type(value).__name__} {repr(value)[:80]}"
