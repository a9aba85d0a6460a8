"""How a trial of another engine stands, in a file of the running line: what `lad-edge promote` decides by, in another process.

`trial.json` is replaced as a whole. The lock on `trial.lock`, which the kernel frees however the process ends, says that the line runs, and
which process it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lad_edge.errors import SinkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lad_edge.bundle import Bundle

STANDING, LOCK = "trial.json", "trial.lock"
_PERIOD_S = 1.0


@dataclass(frozen=True)
class Standing:
    """Both engines, and how often which pair of verdicts was given: "OK/NG" is OK by the line, NG by the shadow.

    skipped: parts that the shadow had no time for. refusals: reloads that the line has refused; refused: why, the last time.
    """

    engine: str
    engine_sha256: str
    shadow: str
    shadow_sha256: str
    pairs: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0
    refusals: int = 0
    refused: str = ""

    @property
    def parts(self) -> int:
        """Judged by both."""
        return sum(self.pairs.values())


class TrialRecord:
    """Of one line, in the folder of --shadow-out."""

    def __init__(self, folder: Path) -> None:
        """Raises SinkError for a folder that cannot be written, or that another line has."""
        self.folder = folder
        self._written_s = 0.0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise SinkError(f"--shadow-out {folder}: {exc.strerror}; choose another folder") from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._lock)
            raise SinkError(f"--shadow-out {folder}: another line writes there; give each its own folder") from exc
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def tell(self, standing: Standing) -> None:
        """Writes it, at most once a second. Raises OSError."""
        if time.monotonic() - self._written_s >= _PERIOD_S:
            self.tell_now(standing)

    def tell_now(self, standing: Standing) -> None:
        """Writes it. Raises OSError."""
        self._written_s = time.monotonic()
        unfinished = self.folder / f".{STANDING}.tmp"
        unfinished.write_text(json.dumps(asdict(standing)) + "\n", encoding="utf-8")
        unfinished.replace(self.folder / STANDING)

    def close(self) -> None:
        """The line does not run any more."""
        os.close(self._lock)


def start_of(engine: Bundle, shadow: Bundle) -> Standing:
    """Before the first part."""
    return Standing(str(engine.path.resolve()), engine.sha256, str(shadow.path.resolve()), shadow.sha256)


def read_standing(folder: Path) -> Standing:
    """What the line wrote last. Raises UsageError."""
    try:
        return Standing(**json.loads((folder / STANDING).read_text(encoding="utf-8")))
    except FileNotFoundError as exc:
        raise UsageError(
            f"{folder} holds no trial: run the line with --shadow Y.lad --shadow-out {folder}, and wait for parts"
        ) from exc
    except (OSError, ValueError, TypeError) as exc:
        raise UsageError(f"{folder / STANDING} is not what a line writes: {exc}") from exc


def running_pid(folder: Path) -> int | None:
    """The process of the line that has this folder; None while no line runs. Raises OSError."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 32, 0))
    else:
        return None
    finally:
        os.close(descriptor)
