"""What a GPU machine without network has to be brought: python -m benchmarks.gpu_pack OUT (or: make gpu-pack).

Downloads the packages that `gpu_check` installs beside PyTorch, for Linux on x86-64, and lays them in boxes: folders of at most --box-mib
MiB that can travel one by one; a larger file is cut into parts. SHA256SUMS in OUT has a line for each whole file, as sha256sum writes it.
`gpu_check --wheels OUT` joins them. Only the standard library is used: PyTorch's Python on a bare machine knows no more.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

BUILD = ("setuptools>=77", "wheel", "pybind11>=2.13,<4", "Cython>=3.1,<4")
RUN = ("numpy>=2.0", "opencv-python-headless>=4.12", "safetensors>=0.5", "onnx>=1.22", "onnxscript>=0.5", "Pillow>=11")
TEST = ("pytest>=8", "hypothesis>=6.100")
ONNXRUNTIME = ("onnxruntime-gpu>=1.21",)
TENSORRT_RTX = ("tensorrt-rtx-cu13>=1.4",)
PYCUDA = ("pycuda>=2024.1",)
NEEDS_OF_SOURCES = ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings", "pytools", "mako", "platformdirs")
WHEELS = (*BUILD, *RUN, *TEST, *ONNXRUNTIME, *NEEDS_OF_SOURCES)
SOURCES = (*PYCUDA, *TENSORRT_RTX)  # published without wheels; they are built where they are installed
GLIBC = (17, 24, 27, 28, 31, 34, 35)  # minor versions that wheels are built for; pip takes each as it is named
SUMS = "SHA256SUMS"


def main() -> None:
    """Download, lay in boxes, say what there is."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        download(Path(folder), args.python_version)
        files = [file for file in sorted(Path(folder).iterdir()) if not file.name.startswith(tuple(args.without))]
        boxes = pack(files, args.out, args.box_mib << 20)
    print(f"{args.out}: {len(boxes)} boxes, {sum(map(_size, boxes)) / 2**20:.0f} MiB together, and {SUMS}")


def download(folder: Path, python_version: str) -> None:
    """Wheels with everything that they need, and the sources of packages that have none."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in reversed(GLIBC)] + ["manylinux2014_x86_64"]
    target = ["--python-version", python_version, "--implementation", "cp", "--only-binary=:all:"]
    target += [word for platform in platforms for word in ("--platform", platform)]
    _pip("download", "--dest", str(folder), *target, *WHEELS)
    names = ",".join(name.split(">")[0] for name in SOURCES)
    _pip("download", "--dest", str(folder), "--no-deps", "--no-binary", names, *SOURCES)


def pack(files: Sequence[Path], out: Path, box_bytes: int) -> list[Path]:
    """Lay files in boxes in `out`, which is made anew; returns the boxes."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    boxes: list[Path] = []
    left = 0
    for name, piece in (found for file in files for found in _pieces(file, box_bytes)):
        if len(piece) > left:
            boxes.append(out / f"box{len(boxes):02}")
            boxes[-1].mkdir()
            left = box_bytes
        (boxes[-1] / name).write_bytes(piece)
        left -= len(piece)
    sums = "".join(f"{_sha256(file)}  {file.name}\n" for file in files)
    (out / SUMS).write_text(sums, encoding="ascii")
    return boxes


def join(packed: Path, out: Path) -> Path:
    """Put the whole files of all boxes below `packed` into `out`; a folder without SHA256SUMS holds whole files already.

    Raises ValueError for a file that is missing, in part or whole, or is not what was packed.
    """
    if not (packed / SUMS).is_file():
        return packed
    out.mkdir(parents=True, exist_ok=True)
    for line in (packed / SUMS).read_text(encoding="ascii").splitlines():
        sha256, name = line.split("  ", 1)
        target = out / name
        if target.is_file() and _sha256(target) == sha256:
            continue
        with target.open("wb") as whole:
            for piece in sorted([*packed.glob(f"*/{name}"), *packed.glob(f"*/{name}.part*")]):
                whole.write(piece.read_bytes())
        if _sha256(target) != sha256:
            target.unlink()
            raise ValueError(f"{name}: a box is missing, or was changed on its way; bring all boxes of {packed} again")
    return out


def _pieces(file: Path, box_bytes: int) -> Iterator[tuple[str, bytes]]:
    """The file under its name, or its parts."""
    if file.stat().st_size <= box_bytes:
        yield file.name, file.read_bytes()
        return
    with file.open("rb") as whole:
        for index, part in enumerate(iter(lambda: whole.read(box_bytes), b"")):
            yield f"{file.name}.part{index:03}", part


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        for block in iter(lambda: opened.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _size(box: Path) -> int:
    return sum(file.stat().st_size for file in box.iterdir())


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words], check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.gpu_pack"
    )
    parser.add_argument("out", type=Path, help="folder of the boxes; made anew")
    parser.add_argument("--python-version", default="3.12", help="of the GPU machine; default: %(default)s")
    without = "leave out files whose names begin so: what the GPU machine has"
    parser.add_argument("--without", nargs="+", default=(), metavar="NAME", help=without)
    parser.add_argument("--box-mib", type=int, default=40, help="largest box; default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    main()
