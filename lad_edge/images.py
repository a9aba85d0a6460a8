"""Image files, strictly: a whole picture comes back, or a DataError says what is wrong; never half a picture.

PNG, JPEG, BMP and baseline TIFF are told by their first bytes, not by their names. Structure is checked before the
decoder sees the file: decoders fill missing rows with grey, or with the rows of an earlier picture (OpenCV issue
26488), and report success. JPEG carries no checksum: a flipped bit inside its pixels cannot be told from a picture;
PNG is the format that notices.

Pixels are returned as they lie in the file: an EXIF orientation is not applied, because a fixed camera does not turn.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from lad_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 100_000_000  # a decoded picture of 300 MB; anything larger is a mistake or an attack

Size = tuple[int, int]  # width, height


class Picture(NamedTuple):
    """One decoded file.

    image: (H, W), (H, W, 3) or (H, W, 4), as in the file, colours in BGR order. pixel_format: "mono8" and "bgr8" are
    what detectors take; else a name such as "mono16", "bgra8", "palette8" for the caller to refuse.
    """

    image: NDArray[np.generic]
    pixel_format: str


def read_image(path: str | Path) -> Picture:
    """Reads one image file.

    Raises DataError when it is missing, foreign, truncated, corrupt, or larger than MAX_PIXELS.
    """
    return decode_image(read_bytes(path), str(path))


def read_image_8bit(path: str | Path) -> NDArray[np.uint8]:
    """(H, W, 3) BGR or (H, W) grey, uint8, for training.

    Raises DataError for other pixels and says how to convert them.
    """
    picture = read_image(path)
    if picture.pixel_format not in ("mono8", "bgr8"):
        raise DataError(
            f"{path}: expected 8-bit grey or colour without alpha, got {picture.pixel_format}; convert the set, "
            f"e.g. with ImageMagick: convert IN -alpha off -depth 8 -type {_imagemagick_type(picture)} OUT.png"
        )
    return np.asarray(picture.image, np.uint8)


def read_bytes(path: str | Path) -> bytes:
    """The content of a file. Raises DataError that names the file and the reason."""
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise DataError(f"cannot read {path}: {exc.strerror}; check the path and its permissions") from exc


def decode_image(data: bytes, name: str) -> Picture:
    """Decodes the bytes of one file; `name` is for messages. Raises DataError as `read_image` does."""
    kind = _sniff(data, name)
    try:
        width, height = _CHECKS[kind](data)
    except (struct.error, IndexError, ValueError) as exc:
        detail = str(exc) if isinstance(exc, ValueError) else "it ends inside its header"
        raise DataError(f"{name}: damaged {kind}: {detail}; copy it again or remove it") from exc
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise DataError(f"{name}: expected 1 to {MAX_PIXELS} pixels, got {width} x {height}; crop or resize it")
    image = _decode(data)
    if image is None or image.shape[:2] != (height, width):
        got = "nothing" if image is None else f"{image.shape[1]} x {image.shape[0]}"
        raise DataError(f"{name}: damaged {kind}: {width} x {height} pixels announced, {got} decoded; copy it again")
    return Picture(image, _pixel_format(image, kind, data))


def _decode(data: bytes) -> NDArray[np.generic] | None:
    try:
        # IMREAD_UNCHANGED keeps depth and alpha and ignores EXIF orientation.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return None if decoded is None else np.asarray(decoded)


def _sniff(data: bytes, name: str) -> str:
    if not data:
        raise DataError(f"{name}: expected an image, the file is empty; copy it again or remove it")
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return kind
    raise DataError(f"{name}: expected PNG, JPEG, BMP or TIFF, the file begins with {data[:8]!r}; convert or remove it")


def _pixel_format(image: NDArray[np.generic], kind: str, data: bytes) -> str:
    if kind == "PNG" and data[25] == 3:
        return "palette8"
    channels = {1: "mono", 3: "bgr", 4: "bgra"}.get(1 if image.ndim == 2 else image.shape[2], "unknown")
    bits = 8 * image.dtype.itemsize
    return f"{channels}{bits}{'' if image.dtype.kind == 'u' else image.dtype.kind}"


def _imagemagick_type(picture: Picture) -> str:
    return "Grayscale" if picture.pixel_format.startswith("mono") else "TrueColor"


def _check_png(data: bytes) -> Size:
    """Walks the chunks: lengths, checksums, and the end chunk (W3C PNG specification, section 5)."""
    at, name = 8, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError(f"it ends inside its chunk {name.decode('latin-1')}")
        if zlib.crc32(memoryview(data)[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError(f"wrong checksum in its chunk {name.decode('latin-1')}")
        at = end + 4
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # in a scan: neither a stuffed byte nor a restart


def _check_jpeg(data: bytes) -> Size:
    """Walks the segments and scans up to the end-of-image marker (ITU-T T.81, annex B)."""
    at, size = 2, None
    while True:
        if data[at] != 0xFF:
            raise ValueError(f"expected a marker at byte {at}")
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        if marker == 0xD9:
            break
        (length,) = struct.unpack_from(">H", data, at + 1)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 4)
            size = (width, height)
        at += 1 + length
        if marker == 0xDA:
            at = _end_of_scan(data, at)
    if size is None:
        raise ValueError("it has no frame header")
    return size


def _end_of_scan(data: bytes, start: int) -> int:
    found = _JPEG_MARKER.search(data, start)
    if found is None:
        raise ValueError("it ends inside its pixels")
    return found.start()


_PACKED = (1, 2, 4, 5)  # BI_RLE8, BI_RLE4, BI_JPEG, BI_PNG


def _check_bmp(data: bytes) -> Size:
    """Header sizes against the file's length (Microsoft BITMAPINFOHEADER)."""
    announced, pixels_at = struct.unpack_from("<I4xI", data, 2)
    width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    if packing in _PACKED:
        raise ValueError(
            "its pixels are packed, and packed ones may end early without a trace; save it unpacked or as PNG"
        )
    stride = (width * bits + 31) // 32 * 4
    needed = pixels_at + stride * abs(height)
    if len(data) < max(announced, needed):
        raise ValueError(f"{max(announced, needed)} bytes announced, {len(data)} there")
    return width, abs(height)


_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I"}
_TIFF_OFFSETS, _TIFF_COUNTS = (273, 324), (279, 325)  # strips, tiles


def _check_tiff(data: bytes) -> Size:
    """Reads the one directory of a classic TIFF and checks that every strip or tile lies inside the file (TIFF 6.0)."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, at)
    tags = dict(_tiff_entry(data, order, at + 2 + 12 * i) for i in range(entries))
    if struct.unpack_from(order + "I", data, at + 2 + 12 * entries)[0]:
        raise ValueError("expected one page, it has several; split it")
    offsets = next((tags[tag] for tag in _TIFF_OFFSETS if tags.get(tag)), ())
    counts = next((tags[tag] for tag in _TIFF_COUNTS if tags.get(tag)), ())
    if not offsets or len(offsets) != len(counts) or not tags.get(256) or not tags.get(257):
        raise ValueError("its directory names no pixels")
    if max(o + c for o, c in zip(offsets, counts, strict=True)) > len(data):
        raise ValueError("its pixels reach beyond the end of the file")
    return tags[256][0], tags[257][0]


def _tiff_entry(data: bytes, order: str, at: int) -> tuple[int, tuple[int, ...]]:
    tag, kind, count = struct.unpack_from(order + "HHI", data, at)
    code = _TIFF_INTEGERS.get(kind)
    if code is None:
        return tag, ()
    size = struct.calcsize(code) * count
    where = at + 8 if size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
    if where + size > len(data):
        raise ValueError("its directory reaches beyond the end of the file")
    return tag, struct.unpack_from(f"{order}{count}{code}", data, where)


_MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_CHECKS: dict[str, Callable[[bytes], Size]] = {
    "PNG": _check_png,
    "JPEG": _check_jpeg,
    "BMP": _check_bmp,
    "TIFF": _check_tiff,
}
