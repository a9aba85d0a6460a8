"""Pictures of parts to a folder: lossless, off the verdict path, within a quota.

FOLDER/CAMERA/2026-11-22/000000000012_NG.png is the picture as it was captured; beside it `_NG.map.png`, the anomaly map in 16
bits, and `_NG.json`, the record with `map_low` and `map_high`: value = map_low + (map_high − map_low) · level / 65535.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lad_edge.errors import SinkError
from lad_edge.outputs.outbox import frame_sha256
from lad_edge.stream.records import Origin, json_line, safe_id, to_record
from lad_edge.values import Frame, Reason, Result, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lad_edge.outputs.address import Address

_WAITING = 8  # pictures in memory
_ENDINGS = (".png", ".map.png", ".json")
_OURS = re.compile(r"\d{12,}_(OK|NG|UNKNOWN)(\.png|\.map\.png|\.json)", re.ASCII)
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
_END = None


@dataclass(frozen=True)
class Selection:
    """NG and UNKNOWN always; of OK one in `ok_every` (0 = none). maps: also the anomaly map."""

    ok_every: int = 0
    maps: bool = True


@dataclass(frozen=True)
class ImagesHealth:
    """skipped: pictures that came while the disk was busy; failed: that it did not take; used_bytes: of the quota.

    codes: DISK_LOW while the last picture could not be kept.
    """

    name: str
    saved: int
    skipped: int
    failed: int
    deleted: int
    used_bytes: int
    codes: tuple[str, ...]
    detail: str


class ImageSaver:
    """A sink on the line (stream/sinks.py). It never holds up the line and never ends it: what it cannot keep, it counts."""

    def __init__(
        self, folder: Path, origin: Origin, selection: Selection, quota_bytes: int, min_free_bytes: int
    ) -> None:
        """quota_bytes: of this camera's pictures, the oldest go first; min_free_bytes: of the disk, left to others.

        Raises SinkError.
        """
        self.folder, self.origin, self.selection = folder / safe_id(origin.camera_id), origin, selection
        self.quota_bytes, self.min_free_bytes = quota_bytes, min_free_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise SinkError(f"images:{folder}: the folder cannot be made: {exc.strerror}; choose another one") from exc
        self._kept = _Kept(self.folder)
        self.next_seq = self._kept.last_seq + 1
        self._saved = self._skipped = self._failed = self._ok_seen = 0
        self._trouble = ""
        self._jobs: queue.Queue[tuple[Frame, Result] | None] = queue.Queue(_WAITING)
        self._worker = threading.Thread(target=self._work, name="images", daemon=True)
        self._worker.start()

    def write(self, frame: Frame, result: Result) -> None:
        """Hands the picture over, or counts that it did not fit."""
        if frame.image is None or not self._wanted(result.verdict):
            return
        try:
            self._jobs.put_nowait((frame, result))
        except queue.Full:
            self._skipped += 1

    def adopt(self, address: Address) -> None:
        """Other options for the same folder, from the next picture on. Raises UsageError."""
        self.selection, self.quota_bytes, self.min_free_bytes = image_options(address)

    def close(self) -> None:
        """Waits until what was handed over is saved."""
        self._jobs.put(_END)
        self._worker.join()

    def health(self) -> ImagesHealth:
        """How it is doing now."""
        return ImagesHealth(
            name=f"images:{self.folder}",
            saved=self._saved,
            skipped=self._skipped,
            failed=self._failed,
            deleted=self._kept.deleted,
            used_bytes=self._kept.used_bytes,
            codes=(Reason.DISK_LOW.value,) if self._trouble else (),
            detail=self._trouble,
        )

    def _wanted(self, verdict: Verdict) -> bool:
        if verdict is not Verdict.OK:
            return True
        self._ok_seen += 1
        return bool(self.selection.ok_every) and self._ok_seen % self.selection.ok_every == 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not _END:
            self._save(*job)

    def _save(self, frame: Frame, result: Result) -> None:
        try:
            files = self._encode(frame, result)
            needed = sum(map(len, files.values()))
            self._kept.make_room(self.quota_bytes - needed)
            self._check_space(needed)
            self._kept.add(self._write(result, files), needed)
        except (OSError, SinkError, cv2.error, ValueError) as exc:
            self._failed, self._trouble = self._failed + 1, f"images:{self.folder}: {exc}"
        else:
            self._saved, self._trouble = self._saved + 1, ""

    def _encode(self, frame: Frame, result: Result) -> dict[str, bytes]:
        """Ending → content."""
        record = to_record(result, self.origin, frame_sha256(np.asarray(frame.image)))
        files = {".png": _png(_as_opencv(frame))}
        if self.selection.maps and result.anomaly_map is not None:
            level, low, high = map_levels(result.anomaly_map)
            files[".map.png"] = _png(level)
            record |= {"map_low": low, "map_high": high}
        return {**files, ".json": json_line(record).encode()}

    def _check_space(self, needed: int) -> None:
        space = os.statvfs(self.folder)
        free = space.f_bavail * space.f_frsize
        if free - needed < self.min_free_bytes:
            raise SinkError(
                f"{free / 1e6:.0f} MB of the disk are free, too few for a picture of {needed / 1e6:.1f} MB, as "
                f"{self.min_free_bytes / 1e6:.0f} MB are left to others (min-free); no picture is kept"
            )

    def _write(self, result: Result, files: dict[str, bytes]) -> Path:
        day = datetime.fromtimestamp(result.utc_ns / 1e9, timezone.utc).strftime("%Y-%m-%d")
        stem = self.folder / day / f"{result.seq:012d}_{result.verdict.value}"
        stem.parent.mkdir(exist_ok=True)
        try:
            for ending, content in files.items():
                _write_whole(Path(f"{stem}{ending}"), content)
        except OSError:
            _delete(stem)
            raise
        return stem


class _Kept:
    """The pictures of one camera, oldest first: by their seq, which rises over restarts, whatever the wall clock does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.deleted = folder, 0
        sizes: dict[Path, int] = {}
        for path in folder.glob("*/*"):
            if _OURS.fullmatch(path.name):
                stem = path.with_name(path.name.partition(".")[0])
                sizes[stem] = sizes.get(stem, 0) + path.stat().st_size
        self._sizes = dict(sorted(sizes.items(), key=lambda item: item[0].name))
        self.used_bytes = sum(self._sizes.values())

    @property
    def last_seq(self) -> int:
        return int(next(reversed(self._sizes)).name.partition("_")[0]) if self._sizes else 0

    def add(self, stem: Path, size_bytes: int) -> None:
        self._sizes[stem] = size_bytes
        self.used_bytes += size_bytes

    def make_room(self, limit_bytes: int) -> None:
        """Deletes the oldest until no more than the limit is used."""
        while self._sizes and self.used_bytes > limit_bytes:
            stem = next(iter(self._sizes))
            _delete(stem)
            self.used_bytes -= self._sizes.pop(stem)
            self.deleted += 1


def map_levels(anomaly_map: NDArray[np.float32]) -> tuple[NDArray[np.uint16], float, float]:
    """(h, w) → 0..65535 over the map's own range, which is returned; values that are not finite become 65535."""
    finite = np.isfinite(anomaly_map)
    low, high = (float(end(anomaly_map[finite])) if finite.any() else 0.0 for end in (np.min, np.max))
    level = np.full(anomaly_map.shape, 65535, np.uint16)
    level[finite] = np.rint((anomaly_map[finite].astype(np.float64) - low) / ((high - low) or 1.0) * 65535)
    return level, low, high


def open_images(address: Address, origin: Origin) -> ImageSaver:
    """`images:FOLDER?ok=500&maps=no&quota=20GB&min-free=1GB`. Raises UsageError, SinkError."""
    return ImageSaver(Path(address.path), origin, *image_options(address))


def image_options(address: Address) -> tuple[Selection, int, int]:
    """What is kept, quota_bytes, min_free_bytes. Raises UsageError."""
    selection = Selection(address.whole("ok", 0), address.choice("maps", "yes", "no") == "yes")
    return selection, address.size_bytes("quota", 10 * 10**9), address.size_bytes("min-free", 10**9)


def _as_opencv(frame: Frame) -> NDArray[Any]:
    """As OpenCV writes it: mono or blue, green, red."""
    image = np.asarray(frame.image)
    is_rgb = frame.pixel_format == "rgb8" and image.ndim == 3  # rows that lost their geometry have no colours to turn
    return np.ascontiguousarray(image[:, :, ::-1] if is_rgb else image)


def _png(image: NDArray[Any]) -> bytes:
    return cv2.imencode(".png", image, _FAST_PNG)[1].tobytes()


def _write_whole(path: Path, content: bytes) -> None:
    """The name appears only with the whole content behind it."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fdatasync(file.fileno())
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()
        raise


def _delete(stem: Path) -> None:
    for ending in _ENDINGS:
        with suppress(OSError):
            Path(f"{stem}{ending}").unlink()
    with suppress(OSError):  # not empty yet
        stem.parent.rmdir()
