"""File → Bundle: nothing is used before it is checked, and the copy that was checked is used (reliability.md §6.1)."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors

from lad_edge.bundle.checks import check_contents
from lad_edge.bundle.fields import strict_json
from lad_edge.bundle.foreign import looks_like
from lad_edge.bundle.layout import (
    DTYPES,
    HASH_KEY,
    MAC_KEY,
    MANIFEST_KEY,
    MAX_FILE_BYTES,
    MAX_HEADER_BYTES,
    METADATA_KEYS,
    SIGNATURE_KEY,
    TensorInfo,
    build_header,
    placed,
)
from lad_edge.bundle.manifest import Calibration, Graph, Manifest, parse_manifest
from lad_edge.bundle.refused import Refused, naming
from lad_edge.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_AGAIN = "the file is damaged: copy or export it again"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle in memory.

    tensors: read-only arrays over the bytes that were hashed. sha256: hex, whole file. path: where it came from.
    """

    manifest: Manifest
    tensors: Mapping[str, NDArray[Any]]
    sha256: str
    path: Path

    def graphs(self) -> dict[str, tuple[Graph, memoryview]]:
        """Return role → (Graph, its bytes): what `lad_edge.runtime.open_runtime` takes."""
        return {role: (graph, self.graph_bytes(role)) for role, graph in self.manifest.graphs.items()}

    def sources(self) -> dict[str, tuple[Graph, memoryview]]:
        """Return role → (Graph of format "onnx", its bytes): what a plan was built from; in a lad the graphs themselves."""
        return {role: self._source(graph) for role, graph in self.manifest.graphs.items()}

    def _source(self, graph: Graph) -> tuple[Graph, memoryview]:
        source = graph if graph.source is None else replace(graph, tensor=graph.source, format="onnx", source=None)
        return source, self.tensors[source.tensor].data

    def caches(self) -> dict[str, memoryview]:
        """Return role → what TensorRT-RTX compiled for the GPU of a plan; empty if it has not yet."""
        device = self.manifest.device
        return {} if device is None else {role: self.tensors[name].data for role, name in device.caches.items()}

    def graph_bytes(self, role: str) -> memoryview:
        """Return the bytes of a graph, without a copy; EngineError if there is none of that role."""
        if role not in self.manifest.graphs:
            raise EngineError(f"{self.path}: no graph '{role}'; it has {', '.join(self.manifest.graphs)}")
        return self.tensors[self.manifest.graphs[role].tensor].data

    def calibration(self, precision: str) -> Calibration:
        """Return what was calibrated at a precision; EngineError if the bundle was not calibrated for it."""
        if precision not in self.manifest.calibrations:
            known = ", ".join(self.manifest.calibrations)
            raise EngineError(
                f"{self.path}: calibrated for {known}, not for {precision}; use one of these or export again with it"
            )
        return self.manifest.calibrations[precision]

    def scores(self, precision: str) -> NDArray[np.float64]:
        """Return the sorted validation scores, (n,) float64."""
        return self.tensors[self.calibration(precision).scores]

    def golden_scores(self, precision: str) -> NDArray[np.floating[Any]]:
        """Return the expected score of each golden frame, (N,)."""
        return self.tensors[self.calibration(precision).golden_scores]

    @property
    def golden_frames(self) -> NDArray[np.uint8]:
        """The golden frames, (N, H, W, 3) or (N, H, W)."""
        return self.tensors[self.manifest.golden.frames]


def read(path: str | os.PathLike[str]) -> Bundle:
    """Read and verify a bundle.

    Raises EngineError if the file is missing or unreadable, BundleError (message begins with E_BUNDLE_…) if it is
    damaged, of another format version, or something else than a bundle. A symbolic link is refused: give the file.
    """
    file = Path(path)
    with naming(file):
        return _verified(_own_copy(file), file)


def loads(data: bytes, name: str = "<memory>") -> Bundle:
    """Verify a bundle that is already in memory, in the same way as `read`."""
    with naming(name):
        return _verified(data, Path(name))


def _own_copy(path: Path) -> bytes:
    """Steps 1 and 2: one open, no links, a regular file, a size cap; everything below uses this copy."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise _cannot_open(path, exc) from exc
    try:
        return _whole(handle)
    finally:
        os.close(handle)


def _whole(handle: int) -> bytes:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise Refused("FOREIGN", f"this is {kind}; give a .lad or .plan file")
    if status.st_size > MAX_FILE_BYTES:
        raise Refused("SIZE", f"{status.st_size} bytes; expected at most {MAX_FILE_BYTES}")
    with os.fdopen(handle, "rb", closefd=False) as file:
        data = file.read(status.st_size + 1)
    if len(data) != status.st_size:
        raise Refused("SIZE", "the file changed while it was read; wait until it is written and try again")
    return data


def _cannot_open(path: Path, exc: OSError) -> Exception:
    if exc.errno == errno.ELOOP:
        return Refused("FOREIGN", f"this is a symbolic link; give the real file: {path.resolve()}")
    if exc.errno in (errno.ENOENT, errno.ENOTDIR):
        return EngineError(f"{path}: no such file; check the path, or make a bundle with 'lad-edge export'")
    return EngineError(f"{path}: cannot be opened ({exc.strerror}); check its permissions")


def _verified(data: bytes, path: Path) -> Bundle:
    start, header = _header(data)
    metadata = _metadata(header)
    _check_signature(metadata)
    manifest = parse_manifest(strict_json(metadata[MANIFEST_KEY], code="MANIFEST", what="manifest"))
    _check_rebuilt_header(data[:start], metadata, manifest)
    _check_size(len(data) - start, manifest)
    _check_independently(data, manifest)
    tensors = {
        name: _hashed(data, start + low, start + high, name, info) for name, info, low, high in placed(manifest.tensors)
    }
    check_contents(manifest, tensors)
    return Bundle(manifest, tensors, hashlib.sha256(data).hexdigest(), path)


def _header(data: bytes) -> tuple[int, dict[str, Any]]:
    """Step 3: return where the tensors begin and the parsed header."""
    length = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else MAX_HEADER_BYTES + 1
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        seems = looks_like(data[:64])
        if seems:
            raise Refused("FOREIGN", f"not a bundle: it looks like {seems}")
        raise Refused(
            "HEADER", f"expected a header of at most {MAX_HEADER_BYTES} bytes inside the file, came {length}; {_AGAIN}"
        )
    try:
        text = data[8 : 8 + length].decode("ascii")
    except UnicodeDecodeError as exc:
        raise Refused("HEADER", f"the header is not ASCII; {_AGAIN}") from exc
    header = strict_json(text, code="HEADER", what="header")
    if not isinstance(header, dict):
        raise Refused("HEADER", f"expected a JSON object, came {type(header).__name__}; {_AGAIN}")
    return 8 + length, header


def _metadata(header: dict[str, Any]) -> dict[str, str]:
    """Step 3: exactly our keys, and the manifest as it was hashed."""
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not any(str(key).startswith(MANIFEST_KEY) for key in metadata):
        raise Refused(
            "FOREIGN", "not a bundle: a plain safetensors file without a manifest; make one with 'lad-edge export'"
        )
    for key in METADATA_KEYS:
        if not isinstance(metadata.get(key), str):
            raise Refused("HEADER", f"'{key}' is missing in the metadata; {_AGAIN}")
    unknown = sorted(set(metadata) - set(METADATA_KEYS))
    if unknown:
        raise Refused(
            "UNKNOWN_KEY", f"'{unknown[0][:64]}' in the metadata: this program does not know this key; update lad-edge"
        )
    found = hashlib.sha256(metadata[MANIFEST_KEY].encode("utf-8", "surrogatepass")).hexdigest()
    if found != metadata[HASH_KEY]:
        raise Refused(
            "MANIFEST", f"sha256 of the manifest: expected {metadata[HASH_KEY][:12]}…, found {found[:12]}…; {_AGAIN}"
        )
    return metadata


def _check_signature(metadata: dict[str, str]) -> None:
    """Step 4: a claim that cannot be checked is an error, not "unsigned"."""
    for key, code, what in ((SIGNATURE_KEY, "SIGNATURE", "signature"), (MAC_KEY, "MAC", "device MAC")):
        if metadata[key]:
            raise Refused(
                code,
                f"the bundle carries a {what}, which this version cannot check; update lad-edge or use an unsigned one",
            )


def _check_rebuilt_header(head: bytes, metadata: dict[str, str], manifest: Manifest) -> None:
    """Step 6: closes what safetensors readers accept: duplicate keys, spaces, other shapes of equal size."""
    if head != build_header(metadata, manifest.tensors):
        raise Refused("HEADER", f"the header is not the one that follows from the manifest; {_AGAIN}")


def _check_size(body_bytes: int, manifest: Manifest) -> None:
    expected = sum(info.size_bytes for info in manifest.tensors.values())
    if body_bytes != expected:
        raise Refused("SIZE", f"expected {expected} bytes of tensors, came {body_bytes}; {_AGAIN}")


def _check_independently(data: bytes, manifest: Manifest) -> None:
    """Step 6, second gate: the safetensors library must see the same tensors."""
    try:
        views = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as exc:
        raise Refused("HEADER", f"safetensors refuses it ({exc}); {_AGAIN}") from exc
    parsed = {name: (view["dtype"], tuple(view["shape"])) for name, view in views}
    if parsed != {name: (info.dtype, info.shape) for name, info in manifest.tensors.items()}:
        raise Refused("HEADER", f"safetensors sees other tensors than the manifest; {_AGAIN}")


def _hashed(data: bytes, start: int, end: int, name: str, info: TensorInfo) -> NDArray[Any]:
    """Step 7: hash the very bytes that the view covers."""
    found = hashlib.sha256(memoryview(data)[start:end]).hexdigest()
    if found != info.sha256:
        raise Refused(
            "TENSOR_HASH", f"tensor '{name}': sha256 expected {info.sha256[:12]}…, found {found[:12]}…; {_AGAIN}"
        )
    dtype = DTYPES[info.dtype]
    return np.frombuffer(data, dtype, (end - start) // dtype.itemsize, start).reshape(info.shape)
