"""The one way a bundle is refused: a stable code and a sentence; the file's name is added at the door."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lad_edge.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike


class Refused(Exception):  # noqa: N818 - a signal inside this package, never seen by a caller
    """Raised by a check; `naming` turns it into a BundleError."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@contextmanager
def naming(file: str | PathLike[str]) -> Iterator[None]:
    """Turn Refused into BundleError `E_BUNDLE_<code>: <file>: <sentence>`, on one line."""
    try:
        yield
    except Refused as refused:
        line = " ".join(refused.text.split())
        raise BundleError(f"E_BUNDLE_{refused.code}: {file}: {line}") from refused.__cause__
