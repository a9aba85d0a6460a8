"""How tensors and manifest lie in the file: names, types, order, and the header that follows from them.

A bundle is one safetensors file: u64 little-endian header length, JSON header padded with spaces to a multiple of 8,
tensor bytes back to back, larger item size first, then by name: numeric tensors are aligned, graphs come last.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.bundle.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

MAX_FILE_BYTES = 4 << 30
MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 1024
MAX_DIMS = 8

MANIFEST_KEY, HASH_KEY, SIGNATURE_KEY, MAC_KEY = (
    "lad_edge",
    "lad_edge_sha256",
    "lad_edge_signature",
    "lad_edge_device_mac",
)
METADATA_KEYS = (MANIFEST_KEY, HASH_KEY, SIGNATURE_KEY, MAC_KEY)

DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
}

_NAME = re.compile(r"[A-Za-z0-9._/-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class TensorInfo:
    """What the manifest says of one tensor. dtype: U8 F16 F32 F64 I32 I64; sha256: hex over its bytes."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor; Python integers do not overflow."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize


def check_tensor_name(name: str) -> str:
    """Return `name` if no reader can mistake it for a path outside a folder."""
    parts = name.split("/")
    if not _NAME.fullmatch(name) or any(set(part) <= {"."} for part in parts) or name == "__metadata__":
        raise Refused(
            "MANIFEST", f"tensor name {name[:80]!r}: expected 1 to 64 of A-Z a-z 0-9 . _ - and single slashes inside"
        )
    return name


def checked_tensor_name(value: object, where: str) -> str:
    """Return `value` if it is text that names a tensor."""
    if not isinstance(value, str):
        raise Refused("MANIFEST", f"'{where}': expected the name of a tensor, came {str(value)[:80]!r}")
    return check_tensor_name(value)


def describe(name: str, array: NDArray[Any]) -> TensorInfo:
    """Return dtype, shape and hash of an array that is about to be written (C order, little-endian)."""
    check_tensor_name(name)
    if array.ndim > MAX_DIMS or array.size == 0:
        raise Refused(
            "SHAPE", f"tensor '{name}': expected 1 or more values in at most {MAX_DIMS} dimensions, came {array.shape}"
        )
    for code, dtype in DTYPES.items():
        if array.dtype == dtype:
            return TensorInfo(code, array.shape, hashlib.sha256(raw_bytes(array)).hexdigest())
    raise Refused("SHAPE", f"tensor '{name}': expected one of {' '.join(DTYPES)}, came {array.dtype}; convert it first")


def raw_bytes(array: NDArray[Any]) -> memoryview:
    """Return the bytes of a C-contiguous array, without a copy."""
    return array.reshape(-1).data.cast("B")


def placed(infos: Mapping[str, TensorInfo]) -> Iterator[tuple[str, TensorInfo, int, int]]:
    """Yield name, info, first byte and end byte, in file order."""
    start = 0
    for name in sorted(infos, key=lambda name: (-DTYPES[infos[name].dtype].itemsize, name)):
        end = start + infos[name].size_bytes
        yield name, infos[name], start, end
        start = end


def build_header(metadata: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> bytes:
    """Return length and header: the only bytes that are right for this manifest and these tensors."""
    header: dict[str, object] = {"__metadata__": {key: metadata[key] for key in METADATA_KEYS}}
    for name, info, start, end in placed(infos):
        header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
