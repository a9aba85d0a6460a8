"""The name of a file that grows goes in; full files get numbers and the oldest ones are deleted, so that the total stays bounded.

`parts.csv` that is full becomes `parts.000001.csv`, the next one `parts.000002.csv`. Which files are older is read from the dates and
numbers in their names: a wall clock that jumps deletes nothing (reliability.md F13).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lad_edge.outputs.address import Address

_DATES = {  # directive of strftime → name and digits of what it becomes; the greatest first
    "%Y": ("year", 4),
    "%m": ("month", 2),
    "%d": ("day", 2),
    "%H": ("hour", 2),
    "%M": ("minute", 2),
    "%S": ("second", 2),
}
_NUMBER_DIGITS = 6
_NEVER_FULL = 1 << 62


class Rotation:
    """rotate_bytes: a file that has reached it is full; quota_bytes: of all files of that name together; each None = no limit."""

    def __init__(self, address: Address, signature: bytes) -> None:
        """signature: how every file of this kind begins; no other file is deleted. Raises UsageError."""
        self._pattern, self._signature = address.path, signature
        self.rotate_bytes = address.size_bytes("rotate", _NEVER_FULL)
        self.quota_bytes = address.size_bytes("quota", _NEVER_FULL)
        self._names = re.compile(_expression(address.path))
        if "quota" in address.options and "rotate" not in address.options and "%" not in address.path:
            raise UsageError(f"{address.name}: a quota deletes whole files: add rotate=100MB, or a date to the name")
        if "quota" in address.options and (unknown := set(re.findall("%.", address.path)) - set(_DATES)):
            raise UsageError(f"{address.name}: a quota needs dates of {', '.join(_DATES)}; came {', '.join(unknown)}")

    def is_full(self, path: Path) -> bool:
        """Whether the next record belongs into a new file."""
        return path.stat().st_size >= self.rotate_bytes

    def rotate(self, path: Path) -> None:
        """Gives a full file its number. Raises OSError."""
        newest = self.newest_before(path)
        number = 1 + (0 if newest is None else self._age(newest)[-1])
        path.rename(path.with_name(f"{path.stem}.{number:0{_NUMBER_DIGITS}d}{path.suffix}"))

    def newest_before(self, path: Path) -> Path | None:
        """The file that became full last under this name."""
        full = [other for other in self._files() if self._belongs(other, path)]
        return max(full, key=self._age, default=None)

    def tidy(self, path: Path) -> None:
        """Deletes the oldest files until the one that is written now, once it is full, fits into the quota too. Raises OSError."""
        if self.quota_bytes == _NEVER_FULL:
            return
        others = sorted((other for other in self._files() if other != path), key=self._age)
        used = sum(other.stat().st_size for other in others) + min(self.rotate_bytes, self.quota_bytes // 2)
        for other in others:
            if used <= self.quota_bytes:
                return
            used -= other.stat().st_size
            other.unlink()

    def _files(self) -> Iterator[Path]:
        """Of this name, with any date and number."""
        folder = next((parent for parent in Path(self._pattern).parents if "%" not in str(parent)), Path())
        depth = len(Path(self._pattern).relative_to(folder).parts)
        for path in folder.glob("/".join(["*"] * depth)):
            if self._names.fullmatch(str(path)) and path.is_file() and self._is_ours(path):
                yield path

    def _is_ours(self, path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(self._signature)) == self._signature

    def _belongs(self, other: Path, path: Path) -> bool:
        return (
            other.parent == path.parent
            and re.fullmatch(rf"{re.escape(path.stem)}\.\d{{{_NUMBER_DIGITS}}}{re.escape(path.suffix)}", other.name)
            is not None
        )

    def _age(self, path: Path) -> tuple[int, ...]:
        """Year to second as far as the name has them, then the number; a file without a number is the newest of its date."""
        found = self._names.fullmatch(str(path))
        assert found is not None  # noqa: S101 - `_files` gives no others
        named = found.groupdict()
        return (*(int(named.get(name) or 0) for name, _ in _DATES.values()), int(named["number"] or 10**_NUMBER_DIGITS))


def _expression(pattern: str) -> str:
    """A regular expression for the names that `strftime` and `Rotation.rotate` make of a pattern."""
    stem, dot, suffix = pattern.rpartition(".")
    if not dot or "/" in suffix:
        stem, dot, suffix = pattern, "", ""
    return f"{_dates(stem)}(?:\\.(?P<number>\\d{{{_NUMBER_DIGITS}}}))?{re.escape(dot)}{_dates(suffix)}"


def _dates(text: str) -> str:
    known: set[str] = set()

    def one(found: re.Match[str]) -> str:
        if found[0] not in _DATES:
            return ".*?" if found[0].startswith("%") else re.escape(found[0])
        name, digits = _DATES[found[0]]
        if name in known:
            return f"(?P={name})"
        known.add(name)
        return f"(?P<{name}>\\d{{{digits}}})"

    return re.sub(r"%.|[^%]", one, text, flags=re.DOTALL)
