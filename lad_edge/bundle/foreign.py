"""Names a file that is not a bundle by its first bytes, so that the error can say what it is and what to do."""

from __future__ import annotations

_EXPORT = "make a bundle with 'lad-edge export'"
_LOOKS = (
    (b"PK\x03\x04", f"a zip archive, such as a torch checkpoint; {_EXPORT}"),
    (b"\x80\x02", f"a pickle, such as an old torch checkpoint; {_EXPORT}"),
    (b"\x80\x03", f"a pickle; {_EXPORT}"),
    (b"\x80\x04", f"a pickle; {_EXPORT}"),
    (b"\x80\x05", f"a pickle; {_EXPORT}"),
    (
        b"ftrt",
        "a TensorRT engine, which is bound to one device and has no thresholds; build a plan with 'lad-edge build'",
    ),
    (
        b"ptrt",
        "a TensorRT engine, which is bound to one device and has no thresholds; build a plan with 'lad-edge build'",
    ),
    (
        b"vtrt",
        "a TensorRT engine, which is bound to one device and has no thresholds; build a plan with 'lad-edge build'",
    ),
    (b"<?xml", f"an XML file, such as an OpenVINO model; {_EXPORT}"),
    (b"\x89PNG", "a PNG image; give it as --source and a .lad file as --engine"),
    (b"\xff\xd8\xff", "a JPEG image; give it as --source and a .lad file as --engine"),
    (b"BM", "a BMP image; give it as --source and a .lad file as --engine"),
    (b"II*\x00", "a TIFF image; give it as --source and a .lad file as --engine"),
    (b"MM\x00*", "a TIFF image; give it as --source and a .lad file as --engine"),
    (b"RIFF", "an AVI video or a WebP image; give it as --source and a .lad file as --engine"),
    (b"GIF8", "a GIF image; give it as --source and a .lad file as --engine"),
    (b"\x89HDF", f"an HDF5 file, such as a Keras model; {_EXPORT}"),
    (b"\x7fELF", f"a program or shared library; {_EXPORT}"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the real file with 'git lfs pull'"),
)
_AT_4 = (
    (b"TFL3", f"a TensorFlow Lite model; {_EXPORT}"),
    (b"ftyp", "an MP4 video; give it as --source and a .lad file as --engine"),
)
_ONNX_SECOND_FIELD = b"\x12\x1a\x22\x2a\x32\x3a\x42"  # ModelProto: ir_version, then one of fields 2 to 8


def looks_like(head: bytes) -> str | None:
    """Return what a file that begins with `head` seems to be, with the remedy; None if it is not known."""
    if not head:
        return "an empty file; copy or export it again"
    for offset, table in ((0, _LOOKS), (4, _AT_4)):
        for magic, meaning in table:
            if head[offset:].startswith(magic):
                return meaning
    if len(head) > 2 and head[0] == 0x08 and head[1] < 0x40 and head[2] in _ONNX_SECOND_FIELD:
        return f"an ONNX graph, which has no thresholds and no input contract; {_EXPORT}"
    return None
