"""Manifest and arrays → file. Same input, same bytes; the old file stays until the new one is safe on the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.bundle.checks import check_contents
from lad_edge.bundle.fields import canonical_json
from lad_edge.bundle.layout import (
    HASH_KEY,
    MAC_KEY,
    MANIFEST_KEY,
    MAX_FILE_BYTES,
    MAX_HEADER_BYTES,
    SIGNATURE_KEY,
    build_header,
    describe,
    placed,
    raw_bytes,
)
from lad_edge.bundle.manifest import Manifest, Policy, parse_manifest
from lad_edge.bundle.reader import Bundle, read
from lad_edge.bundle.refused import Refused, naming
from lad_edge.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space in the quota or choose another disk",
    errno.EFBIG: "raise the file size limit (ulimit -f) or choose another disk",
    errno.EACCES: "choose a folder that this user may write to",
    errno.EPERM: "choose a folder that this user may write to",
    errno.EROFS: "choose a disk that is mounted for writing",
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "make the folder first",
    errno.EISDIR: "a folder of this name is in the way: choose another name",
}


def write(path: str | os.PathLike[str], manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Write a bundle and return the sha256 (hex) of the file.

    `manifest.tensors` is computed here. Raises BundleError if the manifest or a tensor is not acceptable (nothing is
    written then) and SinkError if the file cannot be written; a file that was there before stays as it was.
    """
    target = Path(path)
    with naming(target):
        chunks = list(_chunks(manifest, tensors))
    _replace_file(target, chunks)
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def replace_threshold(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    thresholds: Mapping[str, tuple[float, Policy]],
    scores: Mapping[str, NDArray[np.float64]] | None = None,
) -> str:
    """Write a copy of a bundle with other thresholds, precision → (threshold, policy), and return its sha256.

    `out` may be `path`. scores: precision → the sorted scores that its threshold rests on; None = as they were. Raises as `read` and
    `write`, and EngineError for a precision without calibration.
    """
    return write(out, *rethresholded(read(path), thresholds, scores))


def rethresholded(
    bundle: Bundle,
    thresholds: Mapping[str, tuple[float, Policy]],
    scores: Mapping[str, NDArray[np.float64]] | None = None,
) -> tuple[Manifest, dict[str, NDArray[Any]]]:
    """Return manifest and tensors of a bundle with other thresholds; see `replace_threshold`."""
    names = {precision: f"calibration/{precision}/scores" for precision in scores or {}}
    changed = {
        precision: replace(
            bundle.calibration(precision),
            threshold=threshold,
            policy=policy,
            scores=names.get(precision, bundle.calibration(precision).scores),
        )
        for precision, (threshold, policy) in thresholds.items()
    }
    calibrations = {**bundle.manifest.calibrations, **changed}
    left = {calibration.scores for calibration in bundle.manifest.calibrations.values()}
    left -= {calibration.scores for calibration in calibrations.values()}
    tensors = {name: tensor for name, tensor in bundle.tensors.items() if name not in left}
    tensors |= {names[precision]: values for precision, values in (scores or {}).items()}
    return replace(bundle.manifest, calibrations=calibrations), tensors


def _chunks(manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> Iterator[bytes | memoryview]:
    """Yield header and tensor bytes, after the same checks that the reader makes."""
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    infos = {name: describe(name, array) for name, array in arrays.items()}
    checked = parse_manifest(replace(manifest, tensors=infos).to_json())
    check_contents(checked, arrays)
    text = canonical_json(checked.to_json())
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    header = build_header({MANIFEST_KEY: text, HASH_KEY: sha256, SIGNATURE_KEY: "", MAC_KEY: ""}, infos)
    _check_caps(len(header), sum(info.size_bytes for info in infos.values()))
    yield header
    for name, *_ in placed(infos):
        yield raw_bytes(arrays[name])


def _check_caps(header_bytes: int, body_bytes: int) -> None:
    if header_bytes - 8 > MAX_HEADER_BYTES:
        raise Refused(
            "SIZE", f"a header of {header_bytes} bytes; expected at most {MAX_HEADER_BYTES}: keep less in the manifest"
        )
    if header_bytes + body_bytes > MAX_FILE_BYTES:
        raise Refused("SIZE", f"{header_bytes + body_bytes} bytes; expected at most {MAX_FILE_BYTES}")


def _replace_file(target: Path, chunks: list[bytes | memoryview]) -> None:
    """Temporary file in the same folder, fsync, rename, fsync of the folder (reliability.md §2, durability)."""
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        _write_durably(temporary, chunks)
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as exc:
        remedy = _REMEDIES.get(exc.errno or 0, "check the disk and try again")
        raise SinkError(f"{target}: cannot be written ({exc.strerror}); {remedy}") from exc
    finally:
        temporary.unlink(missing_ok=True)  # there is one only after a failure


def _write_durably(path: Path, chunks: list[bytes | memoryview]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(handle, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(handle)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
