"""A whole picture or a DataError: cuts, flips, foreign files, unusual pixels."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from dataset_samples import photo, save
from hypothesis import given, settings
from hypothesis import strategies as st

from lad_edge.errors import DataError
from lad_edge.images import decode_image, read_image, read_image_8bit

ENCODINGS = {
    "png": (".png", []),
    "jpeg": (".jpg", []),
    "jpeg progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "jpeg with restarts": (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
    "bmp": (".bmp", []),
    "tiff": (".tiff", []),
    "tiff uncompressed": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
}


def encode(image: np.ndarray, name: str = "png") -> bytes:
    suffix, options = ENCODINGS[name]
    return cv2.imencode(suffix, image, options)[1].tobytes()


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """A PNG by hand, for what OpenCV does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("name", ENCODINGS)
def test_whole_files_decode_as_opencv_decodes_them(name, grey):
    image = photo(1)[..., 0] if grey else photo(1)
    data = encode(image, name)
    picture = decode_image(data, name)
    assert picture.pixel_format == ("mono8" if grey else "bgr8")
    np.testing.assert_array_equal(picture.image, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_cut_is_refused(name):
    data = encode(photo(2, 40, 24), name)
    cuts = {*range(0, len(data), max(1, len(data) // 300)), *range(max(0, len(data) - 40), len(data))}
    for cut in sorted(cuts):
        with pytest.raises(DataError):
            decode_image(data[:cut], f"{name} cut at {cut} of {len(data)}")


def test_truncated_jpeg_never_reuses_previous_pixels():
    whole, other = encode(photo(3), "jpeg"), encode(photo(4), "jpeg")
    decode_image(whole, "first")
    with pytest.raises(DataError, match="ends inside its pixels"):
        decode_image(other[: len(other) * 2 // 3], "second")


def test_jpeg_that_ends_in_its_thumbnail_is_refused():
    thumbnail = encode(photo(3, 16, 16), "jpeg")  # its end-of-image marker must not count
    data = encode(photo(3), "jpeg")
    app = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    decode_image(data[:2] + app + data[2:], "whole")
    with pytest.raises(DataError):
        decode_image(data[:2] + app + data[2:-400], "cut")


@settings(deadline=None, max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_png_is_refused(where, bit):
    data = bytearray(encode(photo(5, 40, 24)))
    data[int(where * len(data))] ^= 1 << bit
    with pytest.raises(DataError):
        decode_image(bytes(data), "flipped")


@settings(deadline=None, max_examples=200)
@given(
    data=st.binary(max_size=200),
    magic=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*"]),
)
def test_noise_is_refused_and_nothing_else_is_raised(data, magic):
    with pytest.raises(DataError):
        decode_image(magic + data, "noise")


def test_orientation_in_exif_is_not_applied():
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    data = encode(photo(6, 96, 64), "jpeg")
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (96, 64, 3)  # the tag is a real one
    np.testing.assert_array_equal(decode_image(turned, "turned").image, decode_image(data, "plain").image)


@pytest.mark.parametrize(
    ("image", "pixel_format"),
    [
        (photo(7).astype(np.uint16) * 257, "bgr16"),
        (photo(7)[..., 0].astype(np.uint16) * 257, "mono16"),
        (np.dstack([photo(7), photo(7)[..., :1]]), "bgra8"),
    ],
)
def test_unusual_pixels_come_back_as_they_are_and_training_refuses_them(tmp_path, image, pixel_format):
    path = save(tmp_path / "a.png", image)
    picture = read_image(path)
    assert picture.pixel_format == pixel_format
    np.testing.assert_array_equal(picture.image, image)
    with pytest.raises(DataError, match=rf"expected 8-bit .* got {pixel_format}; convert"):
        read_image_8bit(path)


def test_palette_is_named_as_such():
    palette = bytes([255, 0, 0, 0, 0, 255])
    rows = b"".join(b"\0" + bytes([x % 2 for x in range(8)]) for _ in range(4))
    picture = decode_image(png(8, 4, 8, 3, rows, ((b"PLTE", palette),)), "palette")
    assert picture.pixel_format == "palette8"
    np.testing.assert_array_equal(picture.image[0, :2, :3], [[0, 0, 255], [255, 0, 0]])


def test_a_bomb_is_refused_by_its_header():
    with pytest.raises(DataError, match="60000 x 60000"):
        decode_image(png(60000, 60000, 8, 2, b"\0" * 100), "bomb")


def test_fewer_rows_than_announced_are_refused():
    rows = b"".join(b"\0" + bytes(8) for _ in range(3))
    with pytest.raises(DataError, match="8 x 9 pixels announced"):
        decode_image(png(8, 9, 8, 0, rows), "short")


def test_tiff_of_several_pages_is_refused(tmp_path):
    path = tmp_path / "pages.tiff"
    cv2.imwritemulti(str(path), [photo(1), photo(2)])
    with pytest.raises(DataError, match="expected one page"):
        read_image(path)


def test_names_do_not_decide_the_format(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encode(photo(8)))
    np.testing.assert_array_equal(read_image(path).image, photo(8))


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"GIF89a...", "expected PNG, JPEG, BMP or TIFF")])
def test_foreign_files_say_what_they_are(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_image(path)


def test_missing_files_and_folders_are_data_errors(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone\.png"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot read"):
        read_image(tmp_path)


@pytest.mark.parametrize(("packing", "bits"), [(1, 8), (2, 4)])
def test_a_packed_bmp_is_refused_as_its_missing_rows_would_be_black(packing: int, bits: int) -> None:
    palette = bytes(4 << bits)
    rows = bytes([64, 7, 0, 0]) * 30 + b"\0\1"  # 30 of 64 rows, then the end
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, bits, packing, len(rows), 0, 0, 1 << bits, 0)
    file = b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + rows
    with pytest.raises(DataError, match="packed"):
        decode_image(file, "part.bmp")
