"""Engines that replace each other: what changed stands in the manifest, and the file of before stays beside the new one."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.bundle.fields import Fields, Json, checked_line, checked_sha256
from lad_edge.bundle.reader import Bundle, read
from lad_edge.bundle.refused import naming
from lad_edge.bundle.writer import sync_folder
from lad_edge.errors import SinkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lad_edge.bundle.manifest import Manifest

HISTORY = "history"  # key of the provenance
_LONGEST = 50  # entries


@dataclass(frozen=True)
class Change:
    """parent_sha256: of the file that the engine was made from. utc: when, ISO 8601; why: one line."""

    parent_sha256: str
    utc: str
    why: str


def changed(manifest: Manifest, change: Change, before: Manifest) -> Manifest:
    """The manifest with the history of the engine before it, and one more entry, the last one."""
    entry: Json = {"parent_sha256": change.parent_sha256, "utc": change.utc, "why": change.why}
    entries = [*_entries(before), entry][-_LONGEST:]
    return replace(manifest, provenance={**manifest.provenance, HISTORY: entries})


def changes_of(manifest: Manifest) -> list[Change]:
    """Its history, the last change at the end; empty for an engine that was made from no other. Raises BundleError."""
    with naming(manifest.name):
        return [_change(entry) for entry in _entries(manifest)]


def put_in_place(proposal: Path, engine: Path) -> Path:
    """Replace the engine by what was made from it, at once or not at all, and return where the engine of before is kept.

    Raises UsageError if the proposal was made from another file than the engine is now; as `read`; SinkError.
    """
    new, now = read(proposal), read(engine)
    changes = changes_of(new.manifest)
    if not changes or changes[-1].parent_sha256 != now.sha256:
        made_from = f"the engine of sha256 {changes[-1].parent_sha256[:12]}…" if changes else "no other engine"
        raise UsageError(
            f"{proposal} was made from {made_from}, {engine} is {now.sha256[:12]}…: it has changed since; propose again"
        )
    kept = _kept(engine, now.sha256)
    with _told(engine):
        _duplicate(engine, kept)
        proposal.replace(engine)
        sync_folder(engine.parent)
    return kept


def put_copy_in_place(other: Path, engine: Path) -> Path:
    """Replace the engine by a copy of another one, at once or not at all, and return where the engine of before is kept.

    Raises as `read`; SinkError.
    """
    read(other)
    kept = _kept(engine, read(engine).sha256)
    with _told(engine):
        _duplicate(engine, kept)
        _under_another_name(other, engine, partial(_copy, mode_of=engine))
    return kept


def roll_back(engine: Path) -> Bundle:
    """Put the engine of before back in its place, keep this one beside it, and return the one that is now in place.

    Raises UsageError if there is none or it is gone; as `read`; SinkError.
    """
    now = read(engine)
    changes = changes_of(now.manifest)
    if not changes:
        raise UsageError(f"{engine} was made from no other engine; there is nothing to go back to")
    parent_sha256 = changes[-1].parent_sha256
    kept = _kept(engine, parent_sha256)
    if not kept.is_file():
        raise UsageError(f"{kept}, the engine of before, is gone; copy it back, or teach or export it again")
    before = read(kept)
    if before.sha256 != parent_sha256:
        raise UsageError(
            f"{kept} is another file than the engine of before ({parent_sha256[:12]}…); copy that one back"
        )
    with _told(engine):
        _duplicate(engine, _kept(engine, now.sha256))
        _duplicate(kept, engine)
    return before


def _entries(manifest: Manifest) -> list[Json]:
    entries = manifest.provenance.get(HISTORY, [])
    return entries if isinstance(entries, list) else []


def _change(entry: Json) -> Change:
    fields = Fields(entry, f"provenance.{HISTORY}")
    change = Change(
        parent_sha256=checked_sha256(fields.text("parent_sha256"), "provenance.history.parent_sha256"),
        utc=checked_line(fields.take("utc"), "provenance.history.utc"),
        why=checked_line(fields.take("why"), "provenance.history.why"),
    )
    fields.end()
    return change


def _kept(engine: Path, sha256: str) -> Path:
    return engine.with_name(f"{engine.stem}.{sha256[:12]}{engine.suffix}")


def _duplicate(source: Path, target: Path) -> None:
    """Another name for the same bytes, or a copy where the disk has no links; what was under that name is replaced at once."""
    try:
        _under_another_name(source, target, os.link)
    except OSError:
        _under_another_name(source, target, _copy)


def _copy(source: Path, target: Path, mode_of: Path | None = None) -> None:
    shutil.copyfile(source, target)
    if mode_of is not None:
        shutil.copymode(mode_of, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _under_another_name(source: Path, target: Path, make: Callable[[Path, Path], None]) -> None:
    unfinished = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        make(source, unfinished)
        unfinished.replace(target)
        sync_folder(target.parent)
    finally:
        with suppress(OSError):
            unfinished.unlink()


@contextmanager
def _told(engine: Path) -> Iterator[None]:
    """What the disk says, as a SinkError."""
    try:
        yield
    except OSError as exc:
        raise SinkError(
            f"{engine}: cannot be replaced ({exc.strerror}); what was in place still is; check the disk"
        ) from exc
