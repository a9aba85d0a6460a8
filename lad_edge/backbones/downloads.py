"""ImageNet weights that are published for download: a backbone's name goes in, the path of a verified file comes out."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.request import urlopen

from tqdm import tqdm

from lad_edge.errors import DataError

TIMEOUT_S = 30.0  # without a byte
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Download:
    """A published weight file. sha256: as many hex digits as its publisher states.

    torchvision and timm put the first eight into the file's name. They prove the right file and an unharmed copy; against forgery the
    transport (https) has to stand. The provenance of a run holds a hash over the whole file that was used.
    """

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Of the file, in the cache as at its publisher."""
        return self.url.rpartition("/")[2]


_TORCHVISION = "https://download.pytorch.org/models"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"

# Those that the papers' codes load: ULSAD and FOD by timm 0.6 (methods card §0.4, F-7), the teacher of EfficientAD by torchvision.
DOWNLOADS = {
    "wide_resnet50_2": Download(f"{_TIMM}/wide_resnet50_racm-8234f177.pth", "8234f177"),
    "wide_resnet101_2": Download(f"{_TORCHVISION}/wide_resnet101_2-32ee1156.pth", "32ee1156"),
    "tf_efficientnet_b6": Download(f"{_TIMM}/tf_efficientnet_b6_aa-80ba17e4.pth", "80ba17e4"),
}


def downloaded(name: str) -> Path:
    """The weights of the backbone `name` in the cache, downloaded if they are not there or are damaged; verified in any case.

    Raises DataError if they cannot be had; no half-written or wrong file stays behind.
    """
    source, target = DOWNLOADS[name], cache_folder() / DOWNLOADS[name].file_name
    if not (target.is_file() and _sha256(target).startswith(source.sha256)):
        with _explained(name, source, target):
            _fetch(source, target)
    return target


def cache_folder() -> Path:
    """$LAD_EDGE_CACHE, or lad-edge in the cache folder of the desktop standard (XDG): ~/.cache unless the environment says otherwise."""
    if os.environ.get("LAD_EDGE_CACHE"):
        return Path(os.environ["LAD_EDGE_CACHE"]).expanduser()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "lad-edge"


@contextmanager
def _explained(name: str, source: Download, target: Path) -> Iterator[None]:
    """Whatever the network or the disk does, the user learns what was tried and what to do."""
    try:
        yield
    except (OSError, HTTPException) as exc:
        raise DataError(
            f"{name}: tried to download {source.url} to {target}: {exc}; "
            "without a network, get this file on another machine and pass --weights FILE"
        ) from exc


def _fetch(source: Download, target: Path) -> None:
    """Download beside `target`, verify, rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"downloading {source.url} to {target}\n")
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with urlopen(source.url, timeout=TIMEOUT_S) as response, part.open("xb") as file:  # noqa: S310 - a URL of the table
            found = _copy(response, file)
        if not found.startswith(source.sha256):
            raise OSError(f"sha256 expected {source.sha256}…, found {found}: another file, or damaged on the way")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)  # there is one only after a failure


def _copy(response: HTTPResponse, file: BinaryIO) -> str:
    """Copy a response, with a progress bar on a terminal; returns the sha256. Raises OSError for one that is cut short."""
    size, digest = response.length, hashlib.sha256()
    with tqdm(total=size, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as progress:
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            progress.update(len(chunk))
    if size is not None and file.tell() != size:
        raise OSError(f"expected {size} bytes, came {file.tell()}: the connection broke")
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
